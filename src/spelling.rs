//! The name that was probably meant.

/// Returns the name in `known` that is most similar to `name`, if it is similar: of four letters, three are the same.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.map(|known| (strsim::damerau_levenshtein(name, known), known));
    let most = |known: &str| (2.max(known.len() / 4)).min(known.len().max(name.len()) / 3);
    near.filter(|(distance, known)| *distance <= most(known)).min().map(|(_, known)| known)
}

/// As [`nearest`]; of names that are not similar, the only one that begins with `name`, or with which `name` begins.
pub(crate) fn nearest_or_longer<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    /// A shorter beginning says little.
    const MIN_CHARS: usize = 3;
    let begins = |known: &&str| {
        let (short, long) = if known.len() < name.len() { (*known, name) } else { (name, *known) };
        short.len() >= MIN_CHARS && long.starts_with(short)
    };
    nearest(name, known.clone()).or_else(|| {
        let mut begun = known.filter(begins);
        begun.next().filter(|_| begun.next().is_none())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_similar_name_is_suggested() {
        for (name, known, near) in [
            ("tuor", "tour", Some("tour")),
            ("login", "logins", Some("logins")),
            ("usr-logn", "user-login", Some("user-login")),
            ("ab", "ax", None),
            ("gmem", "ge2", None),
            ("mem", "nu", None),
        ] {
            assert_eq!(nearest(name, std::iter::once(known)), near, "{name}, {known}");
        }
    }

    #[test]
    fn the_only_name_with_the_same_beginning_is_suggested_too() {
        let near = |name: &str| nearest_or_longer(name, ["device_type", "device_id", "timestamp"].into_iter());
        assert_eq!(near("time"), Some("timestamp"));
        assert_eq!(near("device_typ"), Some("device_type"));
        assert_eq!(near("device"), None, "two begin with it");
        assert_eq!(near("ti"), None);
    }
}
