//! The ensemble: who leads, who votes, which part this server has.

use rookeeper_proto::ServerId;
use rookeeper_replica::{Phase, ServerRole, Serving};
use rookeeper_zab::{HostPort, Member, Membership, Role};

use super::commands::{Answer, Failed, Question};
use super::json::Object;

/// This server as a member with a leader. Neither a server alone is that nor one that serves readers without a quorum.
fn as_member<'a>(question: &Question<'a>) -> Option<(ServerId, &'a Membership)> {
    let me = question.context.config.ensemble.as_ref()?.settings.me;
    let has_part = matches!(question.view.serving, Serving::Deciding | Serving::Forwarding);
    Some((me, question.view.status.membership.as_ref().filter(|_| has_part)?))
}

pub(super) fn leader(answer: &mut Object<'_>, question: &Question<'_>) -> Answer {
    let Some(((me, membership), leader)) = as_member(question).zip(question.view.status.leader) else {
        return Err(Failed::Because("server is not initialized".to_owned()));
    };
    let address = membership.members.get(&leader).and_then(|member| member.addresses.first());
    answer.scalar("is_leader", leader == me);
    answer.scalar("leader_id", leader.0);
    answer.scalar("leader_ip", address.map_or("", |address| address.host.as_str()));
    Ok(())
}

/// The learners that vote on nothing and are synced.
pub(super) fn observers(answer: &mut Object<'_>, question: &Question<'_>) -> Answer {
    let synced_observers = question.view.synced_observers();
    answer.scalar("synced_observers", synced_observers.unwrap_or(0));
    let membership = question.view.status.membership.as_ref();
    let role = |server: &ServerId| membership?.members.get(server).map(|member| member.role);
    let synced = &question.view.status.learner_lags_ms;
    let synced = synced.iter();
    let synced = synced.filter(|(server, _)| synced_observers.is_some() && role(server) != Some(Role::Participant));
    answer.list("observers", |list| {
        synced.into_iter().try_for_each(|(server, behind_ms)| {
            list.object(|entry| {
                let link = question.learners.iter().rfind(|learner| learner.server == *server);
                let peer = link.map(|link| format!("/{}", link.peer));
                entry.scalar("remote_socket_address", peer.as_deref());
                entry.scalar("sid", server.0);
                entry.scalar("established", link.map(|link| link.since_ms.0));
                // Null is what is not counted here for each learner.
                entry.scalar("queued_packets", None::<i64>);
                entry.scalar("queued_packets_size", link.map(|link| link.waiting_bytes));
                for name in ["packets_received", "packets_sent", "requests", "last_zxid"] {
                    entry.scalar(name, None::<i64>);
                }
                entry.scalar("behind_ms", *behind_ms);
                Ok::<(), Failed>(())
            })
        })
    })
}

/// Nothing is counted that could begin anew.
pub(super) fn observer_connection_stat_reset(_: &mut Object<'_>, _: &Question<'_>) -> Answer {
    Ok(())
}

pub(super) fn voting_view(answer: &mut Object<'_>, question: &Question<'_>) -> Answer {
    let members = as_member(question).map(|(_, membership)| &membership.members);
    let voters = members.into_iter().flatten().filter(|(_, member)| member.role == Role::Participant);
    answer.object("current_config", |config| {
        voters.into_iter().try_for_each(|(server, member)| {
            config.object(&server.0.to_string(), |entry| {
                let client = member.client.as_ref().map_or_else(String::new, HostPort::to_string);
                write_addresses(entry, "server_addresses", &of_quorum(member));
                write_addresses(entry, "election_addresses", &of_election(member));
                entry.scalar("client_address", client.as_str());
                entry.scalar("learner_type", "participant");
                Ok::<(), Failed>(())
            })
        })
    })
}

fn of_quorum(member: &Member) -> Vec<HostPort> {
    let place = member.addresses.iter();
    place.map(|address| HostPort { host: address.host.clone(), port: address.quorum_port }).collect()
}

fn of_election(member: &Member) -> Vec<HostPort> {
    let place = member.addresses.iter();
    place.map(|address| HostPort { host: address.host.clone(), port: address.election_port }).collect()
}

fn write_addresses(entry: &mut Object<'_>, name: &str, addresses: &[HostPort]) {
    let addresses: Vec<String> = addresses.iter().map(HostPort::to_string).collect();
    entry.scalars(name, addresses.iter().map(String::as_str));
}

pub(super) fn zabstate(answer: &mut Object<'_>, question: &Question<'_>) -> Answer {
    let Some((me, membership)) = as_member(question) else {
        answer.scalar("voting", false);
        answer.scalar("zabstate", "");
        return Ok(());
    };
    let Some(member) = membership.members.get(&me) else {
        answer.scalar("voting", false);
        answer.scalar("zabstate", "");
        return Ok(());
    };
    let status = &question.view.status;
    let zxid = question.context.shared.tree().last_zxid();
    answer.scalar("myid", me.0);
    answer.scalar("is_leader", status.role == ServerRole::Leading);
    write_place(answer, "quorum_address", &of_quorum(member))?;
    write_place(answer, "election_address", &of_election(member))?;
    answer.scalar("client_address", member.client.as_ref().map(HostPort::to_string).as_deref());
    answer.scalar("voting", member.role == Role::Participant);
    answer.scalar("last_zxid", format!("0x{:x}", zxid.0).as_str());
    answer.scalar("zab_epoch", zxid.0 >> 32);
    answer.scalar("zab_counter", zxid.0 & 0xffff_ffff);
    let phase = match status.phase {
        Phase::Election => "election",
        Phase::Discovery => "discovery",
        Phase::Synchronization => "synchronization",
        Phase::Broadcast => "broadcast",
    };
    answer.scalar("zabstate", phase);
    Ok(())
}

/// The addresses of a server at one of its ports. The original tries which of them it reaches; here the first stands for that.
fn write_place(answer: &mut Object<'_>, name: &str, addresses: &[HostPort]) -> Answer {
    let everywhere: Vec<HostPort> =
        addresses.iter().map(|address| HostPort { host: "0.0.0.0".to_owned(), port: address.port }).collect();
    let first = addresses.first().map(HostPort::to_string);
    answer.object(name, |place| {
        place.scalar("empty", addresses.is_empty());
        write_addresses(place, "all_addresses", addresses);
        write_addresses(place, "wildcard_addresses", &everywhere);
        place.scalars("all_ports", addresses.iter().map(|address| address.port));
        place.scalars("all_host_strings", addresses.iter().map(|address| address.host.as_str()));
        place.scalar("reachable_address", first.as_deref());
        write_addresses(place, "all_reachable_addresses", addresses);
        write_addresses(place, "all_reachable_addresses_or_all", addresses);
        place.scalar("reachable_or_one", first.as_deref());
        place.scalar("one", first.as_deref());
        Ok(())
    })
}
