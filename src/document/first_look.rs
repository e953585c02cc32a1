//! Selects the records that are looked up before the first write of their partition. Pure.
//!
//! This detects records of a re-created topic or of another cluster before any of them counts as delivered.

use std::collections::{HashMap, HashSet};

use crate::document::{Document, DocumentBatch, MetaNames, Owner};
use crate::pipeline::Outcome;
use crate::record::Partition;

/// The partitions whose first records have been looked up.
#[derive(Debug, Default)]
pub(crate) struct FirstLook {
    checked_partitions: HashSet<Partition>,
}

impl FirstLook {
    /// Returns the first documents of each partition that is not checked yet, at most `most` of one.
    pub(crate) fn unchecked<'b>(&self, batch: &'b DocumentBatch<'_>, most: usize) -> Vec<Document<'b>> {
        let mut counts: HashMap<Partition, usize> = HashMap::new();
        // Records come in runs of a partition.
        let mut done = None;
        let mut is_wanted = |document: &Document<'_>| {
            let partition = document.record.partition;
            if done == Some(partition) {
                return false;
            }
            let count = counts.entry(partition).or_default();
            if self.checked_partitions.contains(&partition) || *count == most {
                done = Some(partition);
                return false;
            }
            *count += 1;
            true
        };
        batch.good().map(|(_, document)| document).filter(|document| is_wanted(document)).collect()
    }

    /// Returns the outcome of records that are found in the place of the looked-up ones by their timestamps: topics that are created
    /// again can repeat timestamps, so the payloads have to agree too. One document can have been changed since; not most of them.
    pub(crate) fn judge_payloads(found: &[(Document<'_>, bool)], names: Option<&MetaNames>) -> Option<Outcome> {
        let same = found.iter().filter(|(_, is_same)| *is_same).count();
        let (document, _) = found.iter().find(|(_, is_same)| !is_same).filter(|_| same * 2 < found.len())?;
        Some(Owner::AnotherRecord.outcome(document, names, None))
    }

    /// Notes the partitions of documents that were looked up.
    pub(crate) fn check(&mut self, documents: &[Document<'_>]) {
        self.checked_partitions.extend(documents.iter().map(|document| document.record.partition));
    }
}
