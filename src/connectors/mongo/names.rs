//! Names of databases and collections. Pure.

/// Checks the name of a database.
///
/// # Errors
/// When it is not valid: the reason.
pub fn database_rule(name: &str) -> Result<(), String> {
    let forbidden = |c: char| c.is_control() || c.is_whitespace() || "/\\.\"$*<>:|?".contains(c);
    if let Some(c) = name.chars().find(|c| forbidden(*c)) {
        return Err(format!("a database's name may not have {c:?}"));
    }
    match name {
        "" => Err("a database's name may not be empty".to_owned()),
        "admin" | "local" | "config" => Err(format!("`{name}` is the server's own")),
        name if name.len() > 63 => Err("a database's name has at most 63 bytes".to_owned()),
        _ => Ok(()),
    }
}

/// Checks the name of a collection.
///
/// # Errors
/// When it is not valid: the reason.
pub fn collection_rule(name: &str) -> Result<(), String> {
    if let Some(c) = name.chars().find(|c| c.is_control() || *c == '$') {
        return Err(format!("a collection's name may not have {c:?}"));
    }
    if name.is_empty() || name.starts_with('.') || name.ends_with('.') || name.contains("..") {
        return Err("a collection's name may not be empty, nor have a dot at an end or two in a row".to_owned());
    }
    if name == "system" || name.starts_with("system.") {
        return Err("`system.` is the server's own".to_owned());
    }
    // A namespace has at most 255 bytes: the longest name of a database, a dot, and this.
    if name.len() > 191 {
        return Err("a collection's name has at most 191 bytes".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_and_collections_have_valid_names() {
        for name in ["glamira", "a-b_c", "Ümlaut", &"x".repeat(63)] {
            assert_eq!(database_rule(name), Ok(()), "{name}");
        }
        for name in ["", "a.b", "../x", "a$b", "a b", "a\0b", "admin", "local", "config", "a*", "a/b", &"x".repeat(64)] {
            assert!(database_rule(name).is_err(), "{name}");
        }
        for name in ["raw", "a.b", "A-b_c d", "systematic", "a/b", &"x".repeat(191)] {
            assert_eq!(collection_rule(name), Ok(()), "{name}");
        }
        for name in ["", "system.users", "system", "a$b", "a\0b", "a\nb", ".a", "a.", "a..b", "../../x", &"x".repeat(192)] {
            assert!(collection_rule(name).is_err(), "{name}");
        }
    }
}
