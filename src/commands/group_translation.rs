//! Translating the positions of groups, round after round: `offsets translate` and `replicate`.

use std::collections::HashSet;
use std::time::Duration;

use regex::Regex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::error::Error;
use crate::offsets::{LeftOut, TranslatePlan, TranslateRules, TranslatedGroup, TranslatedPosition, Translator, commit_changes};
use crate::pipeline::{ConnectorError, Failure};
use crate::report::counted;
use crate::terminal::escape_controls;

/// The pause between the rounds of `replicate`.
const INTERVAL: Duration = Duration::from_secs(10);

/// How long the end of a run waits for the last round.
const LAST_ROUND_TIMEOUT: Duration = Duration::from_secs(20);

/// What a round has done.
#[derive(Debug, Default)]
pub(crate) struct TranslatedRound {
    /// Per group, how many of its positions were committed, if any.
    pub(crate) moved: Vec<(String, usize)>,
    pub(crate) left_out: Vec<LeftOut>,
    /// Groups of which some positions were left alone.
    pub(crate) incomplete: Vec<LeftOut>,
}

/// Commits what is planned, group by group.
///
/// # Errors
/// When the target does not answer.
pub(crate) async fn commit_plan(translator: &Translator, plan: &TranslatePlan) -> Result<TranslatedRound, ConnectorError> {
    let mut round = TranslatedRound::default();
    (round.left_out, round.incomplete) = left_alone(plan);
    for group in &plan.groups {
        match commit_changes(translator.target(), &group.group, &group.changes()).await {
            Ok(0) => {}
            Ok(moved) => round.moved.push((group.group.clone(), moved)),
            Err(error) if error.is_passing() => return Err(error),
            Err(error) => {
                let (what, mut why) = Error::from(error).what_and_causes();
                why.insert(0, what);
                round.left_out.push(LeftOut { group: group.group.clone(), why: why.join(": ") });
            }
        }
    }
    Ok(round)
}

/// Returns the groups that are left out, and those of which some positions are left alone.
pub(crate) fn left_alone(plan: &TranslatePlan) -> (Vec<LeftOut>, Vec<LeftOut>) {
    let (mut out, mut incomplete) = (plan.left_out.clone(), Vec::new());
    for group in &plan.groups {
        let Some(why) = why_incomplete(group) else { continue };
        let left = LeftOut { group: group.group.clone(), why };
        if group.positions.iter().any(TranslatedPosition::is_done) { incomplete.push(left) } else { out.push(left) }
    }
    (out, incomplete)
}

fn why_incomplete(group: &TranslatedGroup) -> Option<String> {
    let undone: Vec<_> = group.positions.iter().filter(|position| !position.is_done()).collect();
    let first = undone.first()?;
    let why = first.note.as_deref().unwrap_or(first.by.as_str());
    let rest = match undone.len() - 1 {
        0 => String::new(),
        more => format!(", and {more} more of its positions are left alone"),
    };
    Some(format!("{}: {why}{rest}", first.source))
}

/// Logs what changes from round to round.
#[derive(Debug, Default)]
pub(crate) struct RoundLog {
    known: HashSet<(String, String)>,
}

impl RoundLog {
    /// Returns the lines of a round: what moved, and what is left alone unless the last round said the same.
    pub(crate) fn lines(&mut self, round: &TranslatedRound) -> Vec<String> {
        let moved = round.moved.iter().map(|(group, moved)| {
            format!("group `{}`: {} translated", escape_controls(group), counted(*moved as u64, "position"))
        });
        let mut lines: Vec<String> = moved.collect();
        let mut known = HashSet::new();
        for LeftOut { group, why } in round.left_out.iter().chain(&round.incomplete) {
            let entry = (group.clone(), why.clone());
            if !self.known.contains(&entry) {
                lines.push(format!("group `{}` is left alone: {}", escape_controls(group), escape_controls(why)));
            }
            known.insert(entry);
        }
        self.known = known;
        lines
    }
}

/// Translates the groups that match beside a copy.
pub(crate) struct GroupTranslation {
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), Error>>,
}

impl GroupTranslation {
    /// Starts to translate.
    ///
    /// # Errors
    /// When the source does not list its groups.
    pub(crate) async fn start(translator: Translator, pattern: Regex) -> Result<Self, Error> {
        matching(&translator, &pattern).await?;
        let (stop, mut stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            let (mut translator, mut log) = (translator, RoundLog::default());
            loop {
                let is_last = tokio::select! {
                    _ = stopped.wait_for(|stop| *stop) => true,
                    () = tokio::time::sleep(INTERVAL) => false,
                };
                let translated = translate(&mut translator, &pattern, &mut log).await;
                match translated {
                    Err(error) if is_last => return Err(error),
                    Err(error) => tracing::warn!("the groups were not translated: {}", error.what_and_causes().0),
                    Ok(()) if is_last => return Ok(()),
                    Ok(()) => {}
                }
            }
        });
        Ok(Self { stop, task })
    }

    /// Translates once more, and ends.
    ///
    /// # Errors
    /// When a cluster does not answer.
    pub(crate) async fn finish(mut self) -> Result<(), Error> {
        self.stop.send_replace(true);
        let Ok(ended) = timeout(LAST_ROUND_TIMEOUT, &mut self.task).await else {
            return Err(Failure::new("the groups were not translated a last time").because("no answer within 20s").into());
        };
        ended.unwrap_or_else(|error| Err(Failure::new("the translation of groups has ended").because(error).into()))
    }
}

impl Drop for GroupTranslation {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn translate(translator: &mut Translator, pattern: &Regex, log: &mut RoundLog) -> Result<(), Error> {
    let groups = matching(translator, pattern).await?;
    let plan = translator.plan(&groups, TranslateRules::default()).await?;
    let round = commit_plan(translator, &plan).await?;
    log.lines(&round).iter().for_each(|line| tracing::info!("{line}"));
    Ok(())
}

/// Returns the groups of the source whose name matches, without those of flows.
async fn matching(translator: &Translator, pattern: &Regex) -> Result<Vec<String>, Error> {
    let source = translator.source();
    let names = source.group_names().await?.ok_or_else(|| {
        Failure::new(format!("cannot list the groups of `{}`", source.section()))
            .because("embedded brokers do not list their groups")
    })?;
    Ok(names.into_iter().filter(|name| pattern.is_match(name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_is_left_alone_is_logged_once() {
        let left = |why: &str| vec![LeftOut { group: "a".to_owned(), why: why.to_owned() }];
        let round = |moved: &[(&str, usize)], why| TranslatedRound {
            moved: moved.iter().map(|(group, moved)| ((*group).to_owned(), *moved)).collect(),
            left_out: left(why),
            incomplete: Vec::new(),
        };
        let mut log = RoundLog::default();
        assert_eq!(log.lines(&round(&[("b", 2)], "why")), ["group `b`: 2 positions translated", "group `a` is left alone: why"]);
        assert_eq!(log.lines(&round(&[], "why")), [] as [&str; 0]);
        assert_eq!(log.lines(&round(&[], "other")), ["group `a` is left alone: other"]);
        assert_eq!(log.lines(&round(&[], "why")), ["group `a` is left alone: why"]);
    }
}
