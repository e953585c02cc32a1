//! Refusals.

use serde_json::{Value, json};

use super::{BOTH, OPENSEARCH, each};
use crate::harness::Sender;

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_the_same_topic_of_another_cluster_is_refused_until_a_prefix_tells_them_apart() {
    each(BOTH, "twin", 1, |load| {
        load.fake(500);
        load.catch_up("");
        load.clusters.target.create_topic(&load.topic, 1, &[]);
        Sender::new(&load.clusters.target, &[]).send_others(&load.topic, 700);
        let other = format!("--source other_kafka --until-caught-up --group {}", load.topic);
        let finished = load.sdl(&other).run().expect(5);
        for word in ["a record of another topic or cluster", "--id-prefix"] {
            assert!(finished.stderr.contains(word), "`{word}` is not in stderr:\n{}", finished.stderr);
        }
        let committed = load.clusters.target.committed(&load.topic, &load.topic);
        assert!(committed.iter().all(|offset| offset.is_none_or(|offset| offset == 0)), "{committed:?}");
        assert_eq!(load.count(), 500, "nothing is written");
        load.sdl(&format!("{other} --id-prefix eu:")).run().expect(0);
        assert_eq!(load.count(), 1_200, "both are there");

        let stream = load.another("twin-stream", 1);
        stream.fake(500);
        stream.catch_up("--data-stream --bootstrap user-login");
        stream.clusters.target.create_topic(&stream.topic, 1, &[]);
        Sender::new(&stream.clusters.target, &[]).send_others(&stream.topic, 700);
        assert_eq!(stream.count(), 500);
        let other = format!("--source other_kafka --until-caught-up --data-stream --group {}", stream.topic);
        stream.sdl(&other).run().expect(5);
        assert_eq!(stream.count(), 500, "nothing is written");
    });
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_an_index_that_was_deleted_is_created_anew_with_a_warning_of_what_it_lacks() {
    each(BOTH, "dropped", 1, |load| {
        load.fake(300);
        load.catch_up("");
        load.server.tell("DELETE", &format!("/{}", load.topic), &Value::Null);
        load.fake(10);
        let index = &load.topic;
        let warning = format!("index `{index}` does not exist, and the group has read 300 offsets that the topic still holds");
        for flags in ["--dry-run", "--until-caught-up -q"] {
            let finished = load.sdl(flags).run().expect(0);
            assert!(finished.stderr.contains(&warning), "{flags}: {}", finished.stderr);
        }
        assert_eq!(load.count(), 10);
        load.catch_up("--from-beginning");
        assert_eq!(load.count(), 310);
    });
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_a_topic_created_again_is_refused() {
    each(BOTH, "again", 1, |load| {
        load.fake(300);
        load.catch_up("");
        load.clusters.source.delete_topic(&load.topic);
        load.clusters.source.create_topic(&load.topic, 1, &[]);
        Sender::new(&load.clusters.source, &[]).send_others(&load.topic, 300);
        let finished = load.sdl("--until-caught-up --from-beginning").run().expect(5);
        assert!(finished.stderr.contains("--id-prefix"), "{}", finished.stderr);
        assert!(load.server.documents(&load.topic, &json!({"exists": {"field": "other"}})).is_empty());
    });
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_settings_that_do_not_go_together_are_refused_before_anything_is_done() {
    each([OPENSEARCH], "unfit", 1, |load| {
        load.send(&[(Some("k"), Some("{}"))]);
        for (flags, hint) in [
            ("--op create --id key", "--op index"),
            ("--op upsert", "--id key"),
            ("--op update --id key --no-meta", "--no-meta"),
            ("--data-stream --id key", "--data-stream"),
            ("--index Logins", "--index"),
            ("--index a/../b", "--index"),
        ] {
            let finished = load.sdl(&format!("--until-caught-up {flags}")).run().expect(2);
            let is_named =
                finished.stderr.contains(hint) || (flags.contains("--data-stream") && finished.stderr.contains("data stream"));
            assert!(is_named, "{flags}: {}", finished.stderr);
        }
        let bootstrap = load.sdl("--until-caught-up --index {topic} --bootstrap user-login").run().expect(5);
        assert!(bootstrap.stderr.contains("indices of others"), "{}", bootstrap.stderr);
        assert_eq!(load.server.ask("GET", &format!("/{}", load.topic), &Value::Null)["status"], 404);
        assert_eq!(load.committed(), [0]);
    });
}
