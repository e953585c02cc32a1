//! `${env:NAME}` and `${file:/path}` in a value.

use std::path::Path;

use crate::profile::environment::Environment;
use crate::profile::error::ProfileErrorKind;

/// Expands the references in `text` once: references in an expanded value are not expanded.
///
/// The last line break of a file is not part of the value. Any other `$` is literal.
///
/// # Errors
/// When a variable or file is missing, or a reference is not closed.
pub(crate) fn expand(text: &str, from: &dyn Environment) -> Result<String, ProfileErrorKind> {
    let (mut expanded, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(start) = next_reference(rest) {
        expanded.push_str(&rest[..start]);
        let end = start + rest[start..].find('}').ok_or(ProfileErrorKind::Unclosed)?;
        let reference = &rest[start + "${".len()..end];
        if let Some(name) = reference.strip_prefix("env:") {
            let value = from.variable(name).ok_or_else(|| ProfileErrorKind::NoVariable { name: name.to_owned() })?;
            expanded.push_str(&value);
        } else if let Some(path) = reference.strip_prefix("file:") {
            let fault = |cause: String| ProfileErrorKind::NoSecretFile { path: path.to_owned(), cause };
            let bytes = from.read(Path::new(path)).map_err(|error| fault(reason(&error)))?;
            let value = String::from_utf8(bytes).map_err(|_| fault("it is not UTF-8 text".to_owned()))?;
            let value = value.strip_suffix('\n').unwrap_or(&value);
            expanded.push_str(value.strip_suffix('\r').unwrap_or(value));
        }
        rest = &rest[end + 1..];
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// Returns whether `text` is a single reference, without a literal secret.
pub(crate) fn is_reference(text: &str) -> bool {
    next_reference(text) == Some(0) && text.find('}') == Some(text.len() - 1)
}

/// Returns whether the value contains a reference.
pub(crate) fn has_reference(text: &str) -> bool {
    next_reference(text).is_some()
}

fn next_reference(text: &str) -> Option<usize> {
    [text.find("${env:"), text.find("${file:")].into_iter().flatten().min()
}

/// Returns the text of an I/O error without its number.
pub(crate) fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string(),
    }
}
