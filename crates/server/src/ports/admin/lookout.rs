//! Answers about those who ask for much, and about operations that took long. The original has none of this.

use jiff::Timestamp;
use rookeeper_replica::top::{ABOUT, About, MEASURES, Measure};

use super::commands::{Answer, Failed, Question, argument};
use super::json::Object;
use crate::observe::slow::SlowRecord;

/// Names in each table where the question does not say how many.
const NAMES: usize = 10;

pub(super) fn top(answer: &mut Object<'_>, question: &Question<'_>) -> Answer {
    let context = question.context;
    let limit = argument(question.query, "limit").and_then(|limit| limit.parse().ok()).unwrap_or(NAMES);
    let now = context.clock.stamp();
    answer.scalar("enabled", context.config.path_statistics.is_counted);
    ABOUT.into_iter().try_for_each(|about| {
        answer.object(name_of(about), |tables| {
            MEASURES.into_iter().try_for_each(|measure| {
                tables.list(unit_of(measure), |list| {
                    let largest = context.shared.top.largest(now, about, measure, limit);
                    largest.iter().try_for_each(|entry| {
                        list.object(|written| {
                            written.scalar("name", &*entry.name);
                            written.scalar("count", entry.count);
                            written.scalar("at_most_over", entry.at_most_over);
                            Ok::<(), Failed>(())
                        })
                    })
                })
            })
        })
    })
}

fn name_of(about: About) -> &'static str {
    match about {
        About::Path => "paths",
        About::Prefix => "prefixes",
        About::Client => "clients",
        About::Identity => "identities",
    }
}

fn unit_of(measure: Measure) -> &'static str {
    match measure {
        Measure::Requests => "requests",
        Measure::Bytes => "bytes",
        Measure::Watches => "watches",
        Measure::Time => "time_us",
    }
}

pub(super) fn slow_operations(answer: &mut Object<'_>, question: &Question<'_>) -> Answer {
    let slow = &question.context.figures.slow;
    let thresholds = question.context.config.slow_operations;
    answer.scalar("count", slow.count());
    answer.scalar("read_threshold_ms", thresholds.read_ms);
    answer.scalar("write_threshold_ms", thresholds.write_ms);
    answer.list("slow_operations", |list| {
        slow.newest().iter().try_for_each(|record| list.object(|written| write(written, record)))
    })
}

fn write(written: &mut Object<'_>, record: &SlowRecord) -> Answer {
    let SlowRecord { at_ms, operation, path, client, session, zxid, total_us, requests, stages_us } = record;
    let time = Timestamp::from_millisecond(at_ms.0).map(|time| format!("{time:.3}")).unwrap_or_default();
    written.scalar("time", time.as_str());
    written.scalar("operation", operation.as_str());
    written.scalar("path", path.as_deref());
    written.scalar("client", client.as_str());
    written.scalar("session_id", session.to_string().as_str());
    written.scalar("zxid", zxid.map(|zxid| zxid.to_string()).as_deref());
    written.scalar("total_us", *total_us);
    written.scalar("requests", *requests);
    written.object("stages_us", |stages| {
        stages_us.iter().for_each(|(stage, us)| stages.scalar(stage, *us));
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use rookeeper_proto::{OpCode, SessionId, Zxid};
    use rookeeper_replica::{Connection, Sample, SlowOperation, Stamp, Time};
    use rookeeper_tree::WatcherId;
    use serde_json::{Value, json};

    use super::super::tests::ask_as;
    use crate::commands::tests::World;
    use crate::observe::view::View;

    fn asked(world: &World, name: &str, query: &str) -> Value {
        let (status, text) = ask_as(world, &View::of(&world.context), name, query);
        assert_eq!(status, StatusCode::OK, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn those_who_ask_for_the_most_are_told_by_every_measure() {
        let world = World::new();
        let connection = Connection::new(WatcherId(9), "10.0.0.7:1".parse().unwrap(), Time::default());
        let now = world.context.clock.stamp();
        for path in ["/app/a", "/app/a", "/app/b\"c"] {
            let sample = Sample { path: Some(path.into()), op: OpCode::GetData, bytes: 10, watches: 1, weight: 2 };
            world.context.shared.top.note(now, &connection, &sample, 5_000, 6);
        }
        let answer = asked(&world, "top", "");
        let entry = |name: &str, count: u64| json!({ "name": name, "count": count, "at_most_over": 0 });
        assert_eq!(answer["enabled"], true);
        assert_eq!(answer["paths"]["requests"], json!([entry("/app/a", 4), entry("/app/b\"c", 2)]));
        assert_eq!(answer["prefixes"]["bytes"], json!([entry("/app", 60)]));
        assert_eq!(answer["clients"]["time_us"], json!([entry("10.0.0.7", 30)]));
        assert_eq!(answer["identities"]["watches"], json!([entry("anybody", 6)]));
        assert_eq!(asked(&world, "top", "limit=1")["paths"]["requests"], json!([entry("/app/a", 4)]));
    }

    #[test]
    fn slow_operations_are_told_with_the_stages_and_without_data() {
        let world = World::new();
        let ms = |ms: u64| Stamp(ms * 1_000_000);
        world.context.figures.slow.note(
            &SlowOperation {
                op: OpCode::SetData,
                path: Some("/a".into()),
                peer: "10.0.0.7:1".parse().unwrap(),
                session: SessionId(7),
                zxid: Some(Zxid(0x20)),
                arrived: ms(1),
                taken: ms(2),
                handed_over: Some(ms(3)),
                done: ms(1203),
            },
            1,
        );
        let answer = asked(&world, "slow_operations", "");
        assert_eq!((&answer["count"], &answer["write_threshold_ms"]), (&json!(1), &json!(1000)));
        let operation = &answer["slow_operations"][0];
        assert!(operation["time"].as_str().unwrap().ends_with('Z'), "{operation}");
        assert_eq!((&operation["operation"], &operation["path"]), (&json!("setData"), &json!("/a")));
        assert_eq!((&operation["client"], &operation["session_id"]), (&json!("10.0.0.7:1"), &json!("0x7")));
        assert_eq!((&operation["zxid"], &operation["total_us"]), (&json!("0x20"), &json!(1_202_000)));
        assert_eq!(operation["requests"], 1);
        assert_eq!(operation["stages_us"], json!({ "queue": 1000, "prepare": 1000, "quorum": 1_200_000 }));
    }
}
