//! Parsing profiles of any content.

use proptest::prelude::*;

use super::profile;

fn word() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9_.-]{0,12}"
}

fn value() -> impl Strategy<Value = String> {
    // Anything a line can hold, without the blanks around it.
    r"[^\p{Cc}\p{Z}]([^\p{Cc}\u{2028}\u{2029}]{0,20}[^\p{Cc}\p{Z}])?"
}

proptest! {
    #[test]
    fn written_profiles_are_read_back(values in proptest::collection::btree_map(word(), value(), 1..8), padding in " {0,3}") {
        let lines: String = values.iter().map(|(key, value)| format!("{padding}{key}{padding}={padding}{value}{padding}\n")).collect::<Vec<_>>().concat();
        let profile = profile(&format!("[run.x]\n{lines}")).load();
        prop_assume!(!lines.contains("${"));
        let read: Vec<_> = profile.unwrap().run("x").unwrap().into_iter().map(|value| (value.key, value.value)).collect();
        prop_assert_eq!(read, values.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in "(\\PC|\n|\\[|\\]|=|#){0,200}") {
        let _ = profile(&text).load();
    }

    #[test]
    fn a_profile_is_parsed_like_an_ini_file(values in proptest::collection::btree_map("[a-z]{1,8}", "[a-zA-Z0-9/._-]{1,12}", 1..8)) {
        let lines: String = values.iter().map(|(key, value)| format!("{key} = {value}\n")).collect::<Vec<_>>().concat();
        let text = format!("; comment\n[run.x]\n{lines}");
        let known = ini::Ini::load_from_str(&text).unwrap();
        let read = profile(&text).load().unwrap().run("x").unwrap();
        prop_assert_eq!(read.len(), known.section(Some("run.x")).unwrap().len());
        for value in read {
            prop_assert_eq!(known.get_from(Some("run.x"), &value.key), Some(value.value.as_str()));
        }
    }
}
