//! Preparing the sink for partitions that were assigned.

use super::*;
use crate::pipeline::{Failure, Refused, RunOutcome, RunSide};

fn passing() -> ConnectorError {
    Failure::new("cannot create the target topic").because("no controller").passing().into()
}

#[tokio::test(start_paused = true)]
async fn the_sink_is_prepared_before_the_first_batch_of_new_partitions() {
    let setup = run_of(30).preparing(|_| (Duration::from_secs(2), Ok(())));
    setup.broker.partition(p(1), 0..5, 5);
    setup.broker.assign(&[p(1)]);
    let (finished, log) = setup.finish().await;
    assert_eq!(finished.tally.delivered, 35);
    let prepared = |entry: Entry| if let Entry::Prepared(partitions, _) = entry { Some(partitions) } else { None };
    let calls: Vec<_> = log.entries().into_iter().filter_map(prepared).collect();
    assert_eq!(calls, [vec![p(0)], vec![p(1)]]);
    assert!(finished.elapsed >= Duration::from_secs(4));
}

#[tokio::test(start_paused = true)]
async fn a_transient_failure_to_prepare_is_retried_and_reported() {
    let setup = run_of(30).preparing(|call| (Duration::ZERO, if call < 7 { Err(passing()) } else { Ok(()) }));
    let (finished, log) = setup.finish().await;
    assert!(matches!(finished.outcome, RunOutcome::Complete), "{:?}", finished.outcome);
    assert_eq!(finished.tally.delivered, 30);
    let states = ["target stalled: cannot create the target topic: no controller", "target healthy"];
    assert_eq!(log.observed("target"), states);
}

#[tokio::test(start_paused = true)]
async fn a_transient_failure_to_prepare_is_retried_up_to_the_delivery_limit() {
    let setup = run_of(30).preparing(|_| (Duration::ZERO, Err(passing())));
    let (finished, _) = setup.limits(|limits| limits.retry_for = Some(Duration::from_secs(60))).finish().await;
    let RunOutcome::Failed(error) = &finished.outcome else { panic!("{:?}", finished.outcome) };
    assert!(error.to_string().starts_with("gave up after 1m"), "{error}");
    assert!((60..62).contains(&finished.elapsed.as_secs()));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_or_a_permanent_failure_to_prepare_ends_the_run() {
    let refused = || Refused { what: "another flow's topic".to_owned(), numbers: Vec::new(), hint: String::new() };
    let setup = run_of(30).preparing(move |_| (Duration::ZERO, Err(refused().into())));
    let (finished, log) = setup.finish().await;
    assert!(matches!(finished.outcome, RunOutcome::Failed(ConnectorError::Refused(_))), "{:?}", finished.outcome);
    assert!(log.submitted(Destination::Sink).is_empty());
    let setup = run_of(30).preparing(|_| (Duration::ZERO, Err(Failure::new("no right to create topics").into())));
    let (finished, _) = setup.finish().await;
    assert!(matches!(finished.outcome, RunOutcome::Failed(ConnectorError::Failed(_))), "{:?}", finished.outcome);
}

#[tokio::test(start_paused = true)]
async fn a_rebalance_is_handled_while_the_sink_is_prepared() {
    let setup = follow().preparing(|_| (Duration::from_secs(3600), Ok(())));
    setup.broker.partition(p(0), 0..100, 100);
    setup.broker.assign(&[p(0)]);
    let run = setup.start();
    tokio::time::sleep(ms(100)).await;
    run.broker.revoke(&[p(0)]);
    tokio::time::sleep(ms(1)).await;
    assert!(!run.broker.is_waiting());
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(run.log.stalls(RunSide::Target).is_empty(), "nothing waits for the sink any more");
    run.stop();
    let (finished, _) = run.finish().await;
    assert_eq!((finished.tally.delivered, finished.tally.undelivered), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_failure_to_prepare_for_partitions_that_are_gone_does_not_end_the_run() {
    let setup = follow().preparing(|call| match call {
        0 => (Duration::from_secs(10), Err(Failure::new("no right to create topics").into())),
        _ => (Duration::ZERO, Ok(())),
    });
    setup.broker.partition(p(0), 0..100, 100);
    setup.broker.partition(p(1), 0..10, 10);
    setup.broker.assign(&[p(0)]);
    let run = setup.start();
    tokio::time::sleep(ms(100)).await;
    run.broker.revoke(&[p(0)]);
    run.broker.assign(&[p(1)]);
    run.broker.end();
    let (finished, _) = run.finish().await;
    assert!(matches!(finished.outcome, RunOutcome::Complete), "{:?}", finished.outcome);
    assert_eq!(finished.tally.delivered, 10);
}
