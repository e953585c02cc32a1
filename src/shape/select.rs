//! Adds and removes fields: `default`, `keep` and `drop`.

use crate::shape::document::{Node, Object, is_name, json_string};
use crate::shape::path::Path;

/// Sets the field at `path` to `text` wherever it is missing, and creates the objects around it.
///
/// # Errors
/// When the path meets a value that is neither an object nor missing.
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
                None => object.members.push((json_string(name).into(), value)),
            }
            object.structure_changed = true;
            Ok(())
        }
        _ => Err(()),
    }
}

/// Removes every field at `path`.
pub(super) fn remove(node: &mut Node<'_>, path: &[String]) {
    match (node.open(), path) {
        (Node::Array(array), _) => array.elements.iter_mut().for_each(|element| remove(element, path)),
        (Node::Object(object), [name]) => {
            let before = object.members.len();
            object.members.retain(|(written, _)| !is_name(written, name));
            object.structure_changed |= object.members.len() < before;
        }
        (Node::Object(object), [name, rest @ ..]) => object.named(name).for_each(|value| remove(value, rest)),
        _ => {}
    }
}

/// Fields as a tree of their names.
#[derive(Debug, Default)]
pub(crate) struct FieldTree {
    /// Whether a path ends here.
    is_field: bool,
    children: Vec<(String, FieldTree)>,
}

impl FieldTree {
    pub(crate) fn new(paths: &[Path]) -> Self {
        let mut root = Self::default();
        for path in paths {
            let mut node = &mut root;
            for name in &path.names {
                let known = node.children.iter().position(|(below, _)| below == name);
                let known = known.unwrap_or_else(|| {
                    node.children.push((name.clone(), Self::default()));
                    node.children.len() - 1
                });
                node = &mut node.children[known].1;
            }
            node.is_field = true;
        }
        root
    }

    /// Returns whether a path ends here.
    pub(crate) fn is_field(&self) -> bool {
        self.is_field
    }

    /// Returns whether no path ends here or below.
    pub(crate) fn is_empty(&self) -> bool {
        !self.is_field && self.children.is_empty()
    }

    /// Returns the tree below the field `name`.
    pub(crate) fn child(&self, name: &[u8]) -> Option<&Self> {
        self.children.iter().find(|(child, _)| child.as_bytes() == name).map(|(_, tree)| tree)
    }

    /// Removes all other fields.
    ///
    /// # Errors
    /// When the value is a scalar.
    pub(super) fn apply(&self, node: &mut Node<'_>) -> Result<(), ()> {
        if self.is_field {
            return Ok(());
        }
        match node.open() {
            Node::Object(object) => {
                let before = object.members.len();
                object.members.retain_mut(|(written, value)| {
                    let kept = self.children.iter().find(|(name, _)| is_name(written, name));
                    kept.is_some_and(|(_, kept)| kept.apply(value).is_ok())
                });
                object.structure_changed |= object.members.len() < before;
                Ok(())
            }
            Node::Array(array) => {
                let before = array.elements.len();
                array.elements.retain_mut(|element| self.apply(element).is_ok());
                array.structure_changed |= array.elements.len() < before;
                Ok(())
            }
            Node::Text(_) => Err(()),
        }
    }
}
