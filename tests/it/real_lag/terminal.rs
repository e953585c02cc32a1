//! `sdl lag --watch` as a person sees it.

use std::time::Duration;

use super::{commit, profile, records};
use crate::harness::{Clusters, Sdl, Sender, Terminal, unique};

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_watch_redraws_in_place_and_restores_the_terminal() {
    let clusters = Clusters::shared();
    let (topic, group) = (unique("seen"), unique("seen"));
    clusters.source.create_topic(&topic, 30, &[]);
    let sender = Sender::new(&clusters.source, &[]);
    (0..30).for_each(|partition| sender.send(&topic, &records(partition, 0, 5)));
    commit(&clusters.source, &group, &topic, &[1; 30]);
    let mut terminal = Terminal::open();
    terminal.size(12, 200);
    let running = Sdl::new(&format!("lag {group} --watch --interval 200ms")).profile(&profile(&clusters.source));
    let mut running = running.deadline(Duration::from_secs(90)).stdout(terminal.side()).start();
    // The other screen, without a cursor and without line breaks of its own.
    terminal.wait_for("\u{1b}[?1049h\u{1b}[?25l\u{1b}[?7l");
    terminal.wait_for("every 200ms · q ends");
    // 30 rows below three lines, in a terminal of 12 lines: the last one shows the number of hidden rows.
    terminal.wait_for("... 22 more lines: narrow it with --only-lagging or --topic");
    terminal.size(40, 200);
    terminal.wait_for("STALLED");
    assert!(running.is_running());
    running.signal("INT");
    terminal.wait_for("\u{1b}[?7h\u{1b}[?25h\u{1b}[?1049l");
    running.wait().expect(0);
    let shown = String::from_utf8_lossy(&terminal.all()).into_owned();
    let (_, left) = shown.rsplit_once("\u{1b}[?1049l").expect("it went back");
    assert_eq!(left.matches("STALLED").count(), 30, "what was seen last stays: {left}");
    assert!(!left.contains('\u{1b}'), "{left}");
}
