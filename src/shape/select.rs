//! Which fields there are: `--default`, `--keep` and `--drop`.

use crate::shape::document::{Node, Object, is_name};
use crate::shape::path::Path;

/// Gives the field at `path` the value `text` wherever it is missing, with the objects around it.
///
/// # Errors
/// When something on the way is neither an object nor missing.
pub(super) fn fill<'a>(node: &mut Node<'a>, path: &[String], text: &'a str) -> Result<(), ()> {
    match (node.open(), path) {
        (Node::Array(array), _) => array.elements.iter_mut().try_for_each(|element| fill(element, path, text)),
        (Node::Object(object), [name, rest @ ..]) => {
            if let Some(value) = object.named(name).last().filter(|value| !value.is_null()) {
                return if rest.is_empty() { Ok(()) } else { fill(value, rest, text) };
            }
            let mut value = if rest.is_empty() { Node::Text(text.into()) } else { Node::Object(Object::new()) };
            if !rest.is_empty() {
                fill(&mut value, rest, text)?;
            }
            match object.named(name).last() {
                Some(null) => *null = value,
                None => object.members.push((serde_json::to_string(name).expect("text is JSON").into(), value)),
            }
            object.touched = true;
            Ok(())
        }
        _ => Err(()),
    }
}

/// Leaves out every field at `path`.
pub(super) fn remove(node: &mut Node<'_>, path: &[String]) {
    match (node.open(), path) {
        (Node::Array(array), _) => array.elements.iter_mut().for_each(|element| remove(element, path)),
        (Node::Object(object), [name]) => {
            let before = object.members.len();
            object.members.retain(|(written, _)| !is_name(written, name));
            object.touched |= object.members.len() < before;
        }
        (Node::Object(object), [name, rest @ ..]) => object.named(name).for_each(|value| remove(value, rest)),
        _ => {}
    }
}

/// The fields that are kept, as a tree.
#[derive(Debug, Default)]
pub(super) struct FieldTree {
    /// Kept with all that is below.
    whole: bool,
    below: Vec<(String, FieldTree)>,
}

impl FieldTree {
    pub(super) fn new(paths: &[Path]) -> Self {
        let mut root = Self::default();
        for path in paths {
            let mut node = &mut root;
            for name in &path.names {
                let known = node.below.iter().position(|(below, _)| below == name);
                let known = known.unwrap_or_else(|| {
                    node.below.push((name.clone(), Self::default()));
                    node.below.len() - 1
                });
                node = &mut node.below[known].1;
            }
            node.whole = true;
        }
        root
    }

    /// Leaves out all other fields.
    ///
    /// # Errors
    /// When the value has no fields.
    pub(super) fn apply(&self, node: &mut Node<'_>) -> Result<(), ()> {
        if self.whole {
            return Ok(());
        }
        match node.open() {
            Node::Object(object) => {
                let before = object.members.len();
                object.members.retain_mut(|(written, value)| {
                    let kept = self.below.iter().find(|(name, _)| is_name(written, name));
                    kept.is_some_and(|(_, kept)| kept.apply(value).is_ok())
                });
                object.touched |= object.members.len() < before;
                Ok(())
            }
            Node::Array(array) => {
                let before = array.elements.len();
                array.elements.retain_mut(|element| self.apply(element).is_ok());
                array.touched |= array.elements.len() < before;
                Ok(())
            }
            Node::Text(_) => Err(()),
        }
    }
}
