//! AWS's own files: `~/.aws/credentials` and `~/.aws/config`. Pure.

use std::collections::BTreeMap;

/// The settings of one profile.
pub(super) type ProfileSettings = BTreeMap<String, String>;

/// Returns the settings of the profile `name`: those of the credentials file come before those of the configuration.
pub(super) fn settings(credentials: &str, config: &str, name: &str) -> ProfileSettings {
    let mut settings = section(config, |header| {
        let of_config = header.strip_prefix("profile").filter(|rest| rest.starts_with([' ', '\t'])).map(str::trim);
        of_config == Some(name) || name == "default" && header == "default"
    });
    settings.extend(section(credentials, |header| header == name));
    settings
}

fn section(text: &str, is_wanted: impl Fn(&str) -> bool) -> ProfileSettings {
    let mut settings = ProfileSettings::new();
    let mut is_inside = false;
    for line in text.lines() {
        // An indented line belongs to a nested setting.
        if line.starts_with([' ', '\t', '#', ';']) {
            continue;
        }
        if let Some(header) = line.trim_end().strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            is_inside = is_wanted(header.trim());
        } else if let Some((key, value)) = line.split_once('=').filter(|_| is_inside) {
            let value = value.split(" #").next().unwrap_or_default().trim();
            settings.insert(key.trim().to_lowercase(), value.to_owned());
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_credentials_file_comes_before_the_configuration() {
        let credentials = "[default]\naws_access_key_id = A\n# x\n[other]\naws_access_key_id=B\naws_secret_access_key = s=1\n";
        let config =
            "[default]\nregion = r\n[profile other]\nAWS_ACCESS_KEY_ID = C\nrole_arn = arn:x # note\ns3 =\n  role_arn = no\n";
        let other = settings(credentials, config, "other");
        assert_eq!(other["aws_access_key_id"], "B");
        assert_eq!((other["aws_secret_access_key"].as_str(), other["role_arn"].as_str()), ("s=1", "arn:x"));
        let default = settings(credentials, config, "default");
        assert_eq!((default["aws_access_key_id"].as_str(), default["region"].as_str()), ("A", "r"));
        assert!(settings(credentials, config, "none").is_empty());
    }
}
