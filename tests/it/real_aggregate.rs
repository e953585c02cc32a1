//! `sdl aggregate` on a real cluster, held against a recount by a few lines of Python over the same topics, which kcat reads.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Clusters, Dice, Finished, Running, Sdl, Sender, unique};

mod counts;
mod kills;
mod windows;

/// When the first event happens, in seconds since the Unix epoch: the beginning of a window of 10 s.
const BEGINNING: u64 = 1_694_479_550;

/// A topic of events, and the topic of their windows.
struct Flow {
    clusters: Clusters,
    topic: String,
    published: String,
    partitions: i32,
}

impl Flow {
    #[track_caller]
    fn new(name: &str, partitions: i32) -> Self {
        Self::on(Clusters::shared(), name, partitions)
    }

    /// Returns a flow whose test may stop, kill or freeze the servers.
    #[track_caller]
    fn alone(name: &str, partitions: i32) -> Self {
        Self::on(Clusters::exclusive(), name, partitions)
    }

    #[track_caller]
    fn on(clusters: Clusters, name: &str, partitions: i32) -> Self {
        let topic = unique(name);
        clusters.source.create_topic(&topic, partitions, &[]);
        Self { clusters, published: format!("{topic}-windows"), topic, partitions }
    }

    fn group(&self) -> String {
        format!("aggregate-{}", self.published)
    }

    /// Returns `sdl aggregate` of this flow with more flags. The session timeout is two seconds.
    fn sdl(&self, flags: &str) -> Sdl {
        self.sdl_with_session(2_000, flags)
    }

    /// Returns `sdl aggregate` of this flow with this session timeout, in milliseconds.
    fn sdl_with_session(&self, session: u32, flags: &str) -> Sdl {
        let servers = &self.clusters.source.servers;
        let profile = format!("[local_kafka]\nservers = {servers}\nkafka.session.timeout.ms = {session}\n");
        Sdl::new(&format!("aggregate {} --to-topic {} {flags}", self.topic, self.published)).profile(&profile)
    }

    /// Counts the present events and returns the run, which must succeed.
    #[track_caller]
    fn catch_up(&self, flags: &str) -> Finished {
        self.sdl(&format!("--until-caught-up -o json {flags}")).run().expect(0)
    }

    #[track_caller]
    fn send(&self, events: &[String]) {
        let events: Vec<_> = events.iter().map(|event| (None, Some(event.as_str()))).collect();
        Sender::new(&self.clusters.source, &[]).send_values(&self.topic, self.partitions, &events);
    }

    /// Waits until this many messages are published.
    #[track_caller]
    fn until_published(&self, running: &mut Running, count: usize) {
        crate::harness::eventually("windows are published", std::time::Duration::from_secs(60), || {
            let was_running = running.is_running();
            let is_reached = self.published().len() >= count;
            assert!(is_reached || was_running, "it ended:\n{}", running.stderr());
            is_reached.then_some(())
        });
    }

    /// Returns the published values, read with `read_committed`, in order.
    fn published(&self) -> Vec<Value> {
        let topics =
            Command::new("kcat").args(["-L", "-b", &self.clusters.source.servers, "-t", &self.published]).output().unwrap();
        if !String::from_utf8_lossy(&topics.stdout).contains("with 1 partitions") {
            return Vec::new(); // it is not there yet
        }
        let seen = crate::harness::read_with_kcat(&self.clusters.source, &self.published);
        seen.iter().map(|seen| serde_json::from_slice(seen.content.value.as_deref().unwrap()).unwrap()).collect()
    }

    /// Returns the differences between the published windows and a recount of the events.
    #[track_caller]
    fn differs(&self, emit: &str, window: u64) -> Value {
        let arguments = [&self.clusters.source.servers, &self.topic, &self.published, emit, &window.to_string()];
        let ran = Command::new("python3").args(["-c", RECOUNT]).args(arguments).output().expect("python starts");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        serde_json::from_slice(&ran.stdout).expect("python wrote JSON")
    }

    #[track_caller]
    fn assert_recounted(&self, emit: &str, window: u64) {
        assert_eq!(self.differs(emit, window), json!([]), "the published windows differ from a recount");
    }
}

/// Returns events over this many seconds, as users' programs write them: some without a field, some with the time as text, some twice,
/// and some up to 20 s late.
fn events(count: u64, seconds: u64) -> Vec<String> {
    let mut dice = Dice::of_environment();
    let mut events: Vec<String> = Vec::new();
    for n in 0..count {
        if dice.below(50) == 0 && n > 0 {
            let again = events[events.len() - 1].clone();
            events.push(again);
            continue;
        }
        let late = if dice.below(20) == 0 { dice.below(20) } else { 0 };
        let time = (BEGINNING + n * seconds / count).saturating_sub(late);
        let device = ["android", "iOS"][usize::try_from(dice.below(2)).unwrap()];
        let locale = ["RU", "US", "VN", "DE\"\u{e9}"][usize::try_from(dice.below(4)).unwrap()];
        let mut event = json!({
            "user_id": format!("user-{}", dice.below(1000)), "app_version": "2.3.0", "ip": "199.172.111.135", "device_id": "593-47-5928",
            "device_type": device, "locale": locale,
            "timestamp": if dice.below(3) == 0 { json!(time.to_string()) } else { json!(time) },
        });
        for field in ["user_id", "device_type", "ip"] {
            match dice.below(30) {
                0 => drop(event.as_object_mut().unwrap().remove(field)),
                1 => event[field] = Value::Null,
                _ => {}
            }
        }
        events.push(event.to_string());
    }
    events
}

/// Recounts the events of a topic by window, and returns windows that are wrong, unexpected or missing.
const RECOUNT: &str = r"
import collections, datetime, json, subprocess, sys
servers, source, published, emit, length = sys.argv[1:]
length = int(length)
def read(topic):
    out = subprocess.run(['kcat', '-C', '-b', servers, '-t', topic, '-o', 'beginning', '-e', '-q', '-J'], check=True, capture_output=True).stdout
    records = [json.loads(line) for line in out.splitlines()]
    return [(r['key'], json.loads(r['payload'])) for r in sorted(records, key=lambda r: (r['partition'], r['offset']))]
required = ['user_id', 'app_version', 'device_type', 'ip', 'locale', 'device_id', 'timestamp']
counter = collections.Counter
windows = collections.defaultdict(lambda: {'events': 0, 'missing': counter(), 'device_type': counter(), 'locale': counter()})
for _, event in read(source):
    start = int(event['timestamp']) // length * length
    window = windows[start]
    window['events'] += 1
    window['missing'].update(name for name in required if event.get(name) is None)
    for name in ('device_type', 'locale'):
        if event.get(name) is not None:
            window[name][event[name]] += 1
wrong = []
def same(what, is_, should):
    if is_ != should:
        wrong.append([what, is_, should])
if emit == 'summary':
    total, seen = {'events': 0, 'missing': counter(), 'device_type': counter(), 'locale': counter()}, set()
    for key, message in read(published):
        start = message['timestamp_start']
        same('key', key, f'summary:{start}:{start + length}')
        same('once', start in seen, False)
        seen.add(start)
        window = windows.get(start) or {'events': 0, 'missing': {}, 'device_type': {}, 'locale': {}}
        total['events'] += window['events']
        for name in ('missing', 'device_type', 'locale'):
            total[name].update(window[name])
        same(start, message, {
            'timestamp_start': start, 'timestamp_end': start + length,
            'interval_messages_consumed': window['events'], 'total_messages_consumed': total['events'],
            'interval_missing_field_count': window['missing'], 'total_missing_field_count': total['missing'],
            'interval_device_type_count': window['device_type'], 'total_device_type_count': total['device_type'],
            'interval_locale_count': window['locale'], 'total_locale_count': total['locale'],
        })
    same('windows', sorted(seen), sorted(windows))
else:
    should = {}
    for start, window in windows.items():
        end = datetime.datetime.fromtimestamp(start + length, datetime.timezone.utc).strftime('%Y-%m-%dT%H:%M:%SZ')
        rows = [('device_type', value, count) for value, count in window['device_type'].items()]
        rows += [('locale', value, count) for value, count in window['locale'].items()] + [('total', 'all', window['events'])]
        for kind, value, count in rows:
            row = {'processing_time': end, 'record_type': kind, kind: value, 'count': count}
            should[f'{kind}:{value}:{start}:{start + length}'] = row
    rows = read(published)
    same('rows', len(rows), len(should))
    same('contents', dict(rows), should)
print(json.dumps(wrong[:5]))
";
