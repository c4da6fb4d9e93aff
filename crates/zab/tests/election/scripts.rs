//! One server of ours, told line by line what happens; what it does stands indented below each line. The files in `scripts` contain
//! both. Those that begin with `recorded` are what servers of the original once sent each other.

use std::fmt::Write;
use std::sync::Arc;

use rookeeper_proto::election::{Notification, PeerState};
use rookeeper_proto::{Epoch, MonotonicMs, ServerId, Zxid};
use rookeeper_zab::election::{Candidacy, Election, ElectionOutput, ElectionSettings, Vote};
use rookeeper_zab::{Membership, Memberships};

use super::golden::{assert_golden, path};
use super::network::{number, place, show};

struct Words<'a>(std::str::SplitWhitespace<'a>);

impl<'a> Words<'a> {
    fn next(&mut self) -> &'a str {
        self.0.next().expect("a word is missing")
    }

    fn after(&mut self, word: &str) -> &'a str {
        assert_eq!(self.next(), word);
        self.next()
    }

    fn number(&mut self) -> i64 {
        self.next().parse().unwrap()
    }

    fn server(&mut self) -> ServerId {
        ServerId(self.number())
    }

    fn leader(&mut self) -> Option<ServerId> {
        match self.next() {
            "nobody" => None,
            id => Some(ServerId(id.parse().unwrap())),
        }
    }

    fn zxid(&mut self) -> Option<Zxid> {
        match self.after("at") {
            "-1" | "none" => None,
            zxid => Some(Zxid(i64::from_str_radix(zxid.trim_start_matches("0x"), 16).unwrap())),
        }
    }

    fn epoch(&mut self) -> Option<Epoch> {
        match self.after("epoch") {
            "-1" | "none" => None,
            epoch => Some(Epoch(epoch.parse().unwrap())),
        }
    }

    fn candidacy(&mut self) -> Candidacy {
        Candidacy { zxid: self.zxid(), epoch: self.epoch().unwrap() }
    }

    fn vote(&mut self) -> Vote {
        let (leader, zxid) = (self.leader(), self.zxid());
        Vote { leader, zxid, election_epoch: self.after("round").parse().unwrap(), peer_epoch: self.epoch() }
    }

    fn state(&mut self) -> PeerState {
        match self.next() {
            "looking" => PeerState::Looking,
            "following" => PeerState::Following,
            "leading" => PeerState::Leading,
            "observing" => PeerState::Observing,
            other => panic!("{other} is no state"),
        }
    }
}

/// `1,2,3 observers 4 version 5 groups 1:2/3 weights 3:0 then 1,2,3,4 ...`, everything but the voters left out as needed.
fn memberships(text: &str) -> Memberships {
    let one = |text: &str| {
        let mut words = text.split_whitespace();
        let mut lines = String::new();
        let mut servers = |ids: &str, role: &str| {
            for id in ids.split(',') {
                writeln!(lines, "server.{id}=host{id}:2888:3888:{role}").unwrap();
            }
        };
        servers(words.next().unwrap(), "participant");
        let mut rest = String::new();
        while let Some(word) = words.next() {
            let value = words.next().unwrap();
            match word {
                "observers" => servers(value, "observer"),
                "version" => writeln!(rest, "version={value}").unwrap(),
                "groups" => {
                    for (group, ids) in value.split('/').enumerate() {
                        writeln!(rest, "group.{group}={ids}").unwrap();
                    }
                }
                "weights" => {
                    for weight in value.split(',') {
                        let (id, weight) = weight.split_once(':').unwrap();
                        writeln!(rest, "weight.{id}={weight}").unwrap();
                    }
                }
                other => panic!("{other} is nothing of a membership"),
            }
        }
        Membership::parse_text(lines + &rest, false).unwrap()
    };
    match text.split_once(" then ") {
        Some((committed, last_seen)) => Memberships::new(one(committed), one(last_seen)),
        None => Memberships::settled(one(text)),
    }
}

#[derive(Default)]
struct Stage {
    memberships: Option<Arc<Memberships>>,
    election: Option<Election>,
    candidacy: Option<Candidacy>,
    elsewhere: Option<ServerId>,
    output: String,
}

impl Stage {
    fn election(&mut self) -> &mut Election {
        self.election.as_mut().expect("the script says who it is about")
    }

    fn drain(&mut self, now_ms: MonotonicMs) {
        let Some(election) = &mut self.election else { return };
        let mut text = String::new();
        while let Some(output) = election.poll() {
            let what = match output {
                ElectionOutput::Send { to, notification } => format!("> {to}  {}", show(&notification)),
                ElectionOutput::Elected(leader) => {
                    let Vote { zxid, election_epoch, peer_epoch, .. } = election.vote();
                    let (state, zxid, epoch) = (election.state(), place(*zxid), number(*peer_epoch));
                    format!("{state:?} {leader} at {zxid}, round {election_epoch}, epoch {epoch}")
                }
                ElectionOutput::NewerMembership(text) => {
                    format!("newer membership: {}", String::from_utf8(text).unwrap().replace('\n', " "))
                }
            };
            writeln!(text, "    {now_ms:>5}  {what}").unwrap();
        }
        let elsewhere = election.led_elsewhere();
        if let Some(other) = elsewhere.filter(|_| elsewhere != self.elsewhere) {
            writeln!(text, "    {now_ms:>5}  led elsewhere, by {other}").unwrap();
        }
        self.elsewhere = elsewhere;
        self.output += &text;
    }

    fn wait_until(&mut self, until_ms: MonotonicMs) {
        while let Some(at_ms) = self.election.as_ref().and_then(Election::deadline_ms).filter(|at_ms| *at_ms < until_ms)
        {
            self.election().tick(at_ms);
            self.drain(at_ms);
        }
    }

    fn play(&mut self, line: &str) {
        let (first, rest) = line.split_once(' ').unwrap();
        let mut words = Words(rest.split_whitespace());
        match first {
            "members" => self.memberships = Some(Arc::new(memberships(rest))),
            "me" => {
                let me = words.server();
                let candidacy = words.candidacy();
                let settings = ElectionSettings { me, notification_interval_ms: (200, 60_000), finalize_wait_ms: 200 };
                self.election = Some(Election::new(settings, self.memberships.clone().unwrap(), candidacy));
                self.candidacy = Some(candidacy);
            }
            time => {
                let now_ms = time.parse().unwrap_or_else(|_| panic!("{line:?} begins with no time"));
                let now_ms = MonotonicMs(now_ms);
                self.wait_until(now_ms);
                self.happen(now_ms, words.next(), words, rest);
                self.drain(now_ms);
            }
        }
    }

    fn happen(&mut self, now_ms: MonotonicMs, what: &str, mut words: Words<'_>, line: &str) {
        match what {
            "look" => {
                let candidacy = self.candidacy.unwrap();
                self.election().look(now_ms, candidacy);
            }
            "now" => self.candidacy = Some(words.candidacy()),
            "up" => self.election().link_up(now_ms, words.server()),
            "down" => self.election().link_down(now_ms, words.server()),
            "refused" => self.election().refused(words.server()),
            "established" => self.election().established(Epoch(words.number() as u32)),
            "vain" => self.election().tried_in_vain(),
            "pause" => self.election().pause(),
            "restart" => self.election().restart(),
            "settle" => {
                let state = words.state();
                self.election().settle(words.vote(), state);
            }
            "members" => {
                let memberships = memberships(line.split_once("members ").unwrap().1);
                self.election().set_memberships(Arc::new(memberships));
            }
            "pass" => self.election().tick(now_ms),
            from => {
                assert_eq!(words.next(), "says");
                let state = words.state();
                let Vote { leader, zxid, election_epoch, peer_epoch } = words.vote();
                let config = line.split_once(" with ").map(|(_, text)| memberships(text).committed.to_string());
                let config = config.map(String::into_bytes);
                let notification = Notification { state, leader, zxid, election_epoch, peer_epoch, config };
                self.election().receive(now_ms, ServerId(from.parse().unwrap()), notification);
            }
        }
    }
}

#[test]
fn every_script_is_played_to_the_letter() {
    let mut names: Vec<_> = std::fs::read_dir(path("scripts"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() > 10, "the scripts are gone");
    for name in names {
        let name = format!("scripts/{name}");
        let script = std::fs::read_to_string(path(&name)).unwrap();
        let mut stage = Stage::default();
        for line in script.lines().filter(|line| !line.starts_with("    ")) {
            stage.output += &format!("{line}\n");
            if !line.is_empty() && !line.starts_with('#') {
                stage.play(line);
            }
        }
        assert_golden(&name, &stage.output);
    }
}
