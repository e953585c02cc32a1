//! The wait of a group member that has no partitions.

use std::time::{Duration, Instant};

use crate::pipeline::UnassignedReason;

/// How long a member has no partitions before that is reported. A group that begins waits 3 s for more members.
const REPORTED_AFTER: Duration = Duration::from_secs(5);

/// The wait of a group member for partitions.
#[derive(Debug)]
pub(crate) struct AssignmentWait {
    session_timeout: Duration,
    /// Whether the member has an instance id.
    is_static: bool,
    since: Instant,
    /// Whether the group has answered since the member last joined: without a partition, or the wait would be over.
    has_joined: bool,
    /// Whether the session of this member ended: the group may still wait for the member that it was.
    has_lost: bool,
    reported: Option<UnassignedReason>,
}

impl AssignmentWait {
    pub(crate) fn new(session_timeout: Duration, is_static: bool, now: Instant) -> Self {
        Self { session_timeout, is_static, since: now, has_joined: false, has_lost: false, reported: None }
    }

    /// Notes that the group has answered, perhaps with no partition.
    pub(crate) fn on_assigned(&mut self, now: Instant) {
        (self.has_joined, self.has_lost, self.since) = (true, false, now);
    }

    /// Notes that partitions were taken away: the member joins again. `lost`: because its session ended.
    pub(crate) fn on_revoked(&mut self, lost: bool, now: Instant) {
        (self.has_joined, self.since) = (false, now);
        self.has_lost |= lost;
    }

    /// Returns how long the group waits for a member that does not answer.
    pub(crate) fn session_timeout(&self) -> Duration {
        self.session_timeout
    }

    /// Returns why the member has no partitions, when that is to be reported: each reason once in a wait. `is_over`: the member has
    /// partitions, or does not wait for its group.
    pub(crate) fn report(&mut self, is_over: bool, now: Instant) -> Option<UnassignedReason> {
        if is_over {
            (self.since, self.reported) = (now, None);
            return None;
        }
        let reason = if self.has_joined {
            UnassignedReason::NoneLeft
        } else {
            let Self { session_timeout, is_static, has_lost: after_outage, .. } = *self;
            UnassignedReason::Rebalancing { session_timeout, after_outage, is_static }
        };
        let is_due = now.saturating_duration_since(self.since) >= REPORTED_AFTER && self.reported != Some(reason);
        is_due.then(|| *self.reported.insert(reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: Duration = Duration::from_secs(45);
    const REBALANCING: Option<UnassignedReason> =
        Some(UnassignedReason::Rebalancing { session_timeout: SESSION, after_outage: false, is_static: false });
    const NONE_LEFT: Option<UnassignedReason> = Some(UnassignedReason::NoneLeft);

    #[test]
    fn a_group_that_does_not_answer_is_reported_once_in_each_wait() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut wait = AssignmentWait::new(SESSION, false, begun);
        let reports = [0, 4, 5, 6, 44].map(|seconds| wait.report(false, at(seconds)));
        assert_eq!(reports, [None, None, REBALANCING, None, None]);
        wait.on_assigned(at(45));
        assert_eq!([45, 100].map(|seconds| wait.report(true, at(seconds))), [None; 2]);
        wait.on_revoked(false, at(101));
        assert_eq!([105, 106, 107].map(|seconds| wait.report(false, at(seconds))), [None, REBALANCING, None]);
        wait.on_assigned(at(108));
        wait.on_revoked(true, at(109));
        let after_outage = Some(UnassignedReason::Rebalancing { session_timeout: SESSION, after_outage: true, is_static: false });
        assert_eq!([110, 114].map(|seconds| wait.report(false, at(seconds))), [None, after_outage]);
    }

    #[test]
    fn an_assignment_in_time_is_not_reported() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut wait = AssignmentWait::new(SESSION, false, begun);
        assert_eq!(wait.report(false, at(4)), None);
        wait.on_assigned(at(4));
        assert_eq!([4, 9, 99].map(|seconds| wait.report(true, at(seconds))), [None; 3]);
    }

    #[test]
    fn a_member_without_partitions_is_told_from_one_without_an_answer() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut wait = AssignmentWait::new(SESSION, false, begun);
        wait.on_assigned(at(3));
        let reports = [5, 7, 8, 9].map(|seconds| wait.report(false, at(seconds)));
        assert_eq!(reports, [None, None, NONE_LEFT, None]);
        let mut wait = AssignmentWait::new(SESSION, false, begun);
        assert_eq!(wait.report(false, at(5)), REBALANCING);
        wait.on_assigned(at(20));
        assert_eq!([24, 25, 26].map(|seconds| wait.report(false, at(seconds))), [None, NONE_LEFT, None]);
    }
}
