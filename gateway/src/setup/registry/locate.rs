//! Finds the lines of keys in a TOML file that was read into a type, which forgets them.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::setup::config::{Fault, Place};

/// A TOML file's text with the places of its keys.
pub(crate) struct Located<'a> {
    file: &'a str,
    text: &'a str,
    root: Spanned<DeTable<'a>>,
}

impl<'a> Located<'a> {
    /// Parses `text`.
    ///
    /// # Errors
    /// Every broken line.
    pub(crate) fn parse(file: &'a str, text: &'a str) -> Result<Self, Vec<Fault>> {
        let (root, errors) = DeTable::parse_recoverable(text);
        let fault = |error: toml::de::Error| {
            let at = error.span().map_or(text.len(), |span| span.start);
            let what = format!("is not TOML: {}", error.message().replace('\n', ", "));
            Fault::new(Place::at(file, text, at), "", what, "correct the line")
        };
        if errors.is_empty() {
            Ok(Self { file, text, root })
        } else {
            Err(errors.into_iter().map(fault).collect())
        }
    }

    /// The whole as a `T`.
    ///
    /// # Errors
    /// The first key that does not fit.
    pub(crate) fn read<T: serde::de::DeserializeOwned>(&self) -> Result<T, Fault> {
        toml::from_str(self.text).map_err(|error| {
            let at = error.span().map_or(0, |span: Range<usize>| span.start);
            let what = error.message().replace('\n', ", ");
            Fault::new(Place::at(self.file, self.text, at), "", what, "see the files in seeds for the format")
        })
    }

    /// The place of a key such as `report.samples` or `channels.flow.min`, where a step into a list is the `label` of
    /// its item; of the nearest thing around it where the key is not written.
    pub(crate) fn place(&self, path: &str, label: &str) -> Place {
        let mut at = 0;
        let mut table = Some(self.root.get_ref());
        let mut list: Option<&[Spanned<DeValue<'_>>]> = None;
        for step in path.split('.') {
            let found = match (table, list) {
                (_, Some(items)) => items.iter().rev().find(|item| {
                    item.get_ref().as_table().and_then(|t| t.get(label)?.get_ref().as_str()) == Some(step)
                }),
                (Some(table), None) => table.get(step),
                (None, None) => None,
            };
            let Some(found) = found else { break };
            at = found.span().start;
            table = found.get_ref().as_table();
            list = found.get_ref().as_array().map(|array| &**array);
        }
        Place::at(self.file, self.text, at)
    }
}
