//! Servers prove themselves to each other on a connection that was just made. What is said is decided in `auth::between_servers`.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use crate::auth::between_servers::{Acceptor, Dialer, Failure, Judge, Members, Proofs, Prover, Step, last_words};
use crate::auth::kerberos::{self, acceptor, initiator};
use crate::auth::nonce;

/// How long somebody who authenticates may take to begin, where others may come in without. A server of the original needs half a second to
/// load what SASL needs; somebody without SASL who has nothing to say is kept for this long.
const SILENCE: Duration = Duration::from_secs(2);

/// Demands a proof of whoever connected, if there is anything to demand, within a time limit. What is in `buffer` has been read before; what
/// follows the proof is in it afterwards. Returns the user; or why the connection is to be closed.
pub(crate) async fn demand(
    auth: &Proofs,
    limit: Duration,
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
    buffer: &mut Vec<u8>,
) -> Result<Option<String>, String> {
    let begin = Instant::now();
    let (mut acceptor, mut ticket) = match &auth.judge {
        Some(Judge::Passwords(users)) => (Acceptor::by_password(users.clone(), auth.is_required, nonce()), None),
        Some(Judge::Tickets(service, members)) => {
            let judge = (Some(Box::new(service.exchange())), members, service.default_realm());
            (Acceptor::by_ticket(auth.is_required), Some(judge))
        }
        None => return Ok(None),
    };
    let mut step = acceptor.step(buffer);
    loop {
        let too_late = |_| format!("does not finish SASL within {} ms", limit.as_millis());
        let deadline = begin + if acceptor.lets_silence_in() { limit.min(SILENCE) } else { limit };
        match step {
            Ok(Step::Done(user)) => return Ok(user),
            Ok(Step::Send(bytes)) => {
                let sent = timeout_at(deadline, send(writer, &bytes)).await.map_err(too_late)?;
                sent.map_err(|error| error.to_string())?;
            }
            Ok(Step::Ask(token)) => {
                step = match &mut ticket {
                    Some((exchange, members, default_realm)) => {
                        let judging = async {
                            let progress = judge(exchange, token).await?;
                            Ok((widened(auth, members, &progress).await, progress))
                        };
                        let judged = timeout_at(deadline, judging).await.map_err(too_late)?;
                        judged.and_then(|(members, progress)| acceptor.judged(progress, &members, default_realm))
                    }
                    None => Err(kerberos::Refusal::Over.into()),
                };
                continue;
            }
            Ok(Step::Read(count)) => {
                let filled = timeout_at(deadline, fill(reader, buffer, count)).await.map_err(too_late);
                match filled.and_then(|filled| filled) {
                    Ok(()) => {}
                    // Somebody who has nothing to say, or announces itself and goes, needs no proof where none is required.
                    Err(_) if acceptor.lets_silence_in() => return Ok(None),
                    Err(why) => return Err(why),
                }
            }
            Err(failure) => {
                if let Some(words) = last_words(&failure) {
                    let _ = timeout_at(deadline, send(writer, &words)).await;
                }
                return Err(failure.to_string());
            }
        }
        step = acceptor.step(buffer);
    }
}

/// Lets Kerberos judge a token.
async fn judge(exchange: &mut Option<Box<acceptor::Exchange>>, token: Vec<u8>) -> Result<acceptor::Progress, Failure> {
    let (next, verdict) = acceptor::judge(exchange.take().ok_or(kerberos::Refusal::Over)?, token).await;
    *exchange = next;
    Ok(verdict?)
}

/// Whom to let in as a member, once it is known who asks for it.
async fn widened<'a>(auth: &Proofs, members: &'a Members, progress: &acceptor::Progress) -> Cow<'a, Members> {
    match (&auth.names, progress) {
        (Some(names), acceptor::Progress::Authenticated { principal, .. }) => {
            Cow::Owned(names.widened(members, principal).await)
        }
        _ => Cow::Borrowed(members),
    }
}

/// What a connection of another server may take longer because this one waits for a proof.
pub(crate) fn time_to_begin(auth: &Proofs) -> Duration {
    if auth.judge.is_some() { SILENCE } else { Duration::ZERO }
}

/// Proves who this server is, if it is to, to the server at a host, which was reached at this address. Nothing is read that follows the proof.
pub(crate) async fn give(
    auth: &Proofs,
    (host, address): (&str, SocketAddr),
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
) -> Result<(), String> {
    let (mut dialer, mut ticket) = match &auth.login {
        Some(Prover::Password(login)) => (Dialer::by_password(login.clone(), nonce()), None),
        Some(Prover::Ticket(initiator)) => {
            let host = match &auth.names {
                Some(names) if initiator.asks_for_host() => Cow::Owned(names.of(host, address).await),
                _ => Cow::Borrowed(host),
            };
            (Dialer::by_ticket(), Some(Box::new(initiator.exchange(&host))))
        }
        None => return Ok(()),
    };
    let text = |failure: Failure| failure.to_string();
    let mut buffer = Vec::new();
    let mut step = dialer.step(&mut buffer).map_err(text)?;
    loop {
        match step {
            Step::Done(_) => return Ok(()),
            Step::Send(bytes) => send(writer, &bytes).await.map_err(|error| error.to_string())?,
            Step::Read(count) => fill(reader, &mut buffer, count).await?,
            Step::Ask(token) => {
                let exchange = ticket.take().ok_or_else(|| text(kerberos::Refusal::Over.into()))?;
                let (exchange, answer) =
                    initiator::answer(exchange, token).await.map_err(|refusal| text(refusal.into()))?;
                step = dialer.answered(&answer, exchange.is_complete());
                ticket = Some(exchange);
                continue;
            }
        }
        step = dialer.step(&mut buffer).map_err(text)?;
    }
}

/// What is written to an encrypted connection may wait in it until it is flushed.
async fn send(writer: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    writer.write_all(bytes).await?;
    writer.flush().await
}

/// Appends some bytes, at most this many.
async fn fill(reader: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>, count: usize) -> Result<(), String> {
    match reader.take(count as u64).read_buf(buffer).await {
        Ok(0) => Err("closed before SASL was over".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{duplex, split};

    use super::*;
    use crate::auth::digest_md5::{Login, QUORUM, Users};

    const LIMIT: Duration = Duration::from_secs(30);
    const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 2888);

    fn auth(password: &str, is_required: bool) -> Proofs {
        let mut users = Users::of(QUORUM);
        users.set_password("zkq", "quorumpw");
        Proofs {
            login: Some(Prover::Password(Login::new(QUORUM, "zkq", password))),
            judge: Some(Judge::Passwords(Arc::new(users))),
            is_required,
            names: None,
        }
    }

    /// What each side makes of it, and what is left for those behind.
    async fn meet(dialing: Proofs, accepting: Proofs) -> (Result<(), String>, Result<Option<String>, String>, Vec<u8>) {
        let (mut one, mut other) = duplex(7);
        let given = async {
            let given = {
                let (mut reader, mut writer) = split(&mut one);
                give(&dialing, ("zoo1", ADDRESS), &mut reader, &mut writer).await
            };
            if given.is_ok() {
                let _ = one.write_all(b"what follows").await;
            }
            drop(one);
            given
        };
        let demanded = async {
            let mut buffer = Vec::new();
            let demanded = {
                let (mut reader, mut writer) = split(&mut other);
                demand(&accepting, LIMIT, &mut reader, &mut writer, &mut buffer).await
            };
            if demanded.is_ok() {
                let _ = other.read_to_end(&mut buffer).await;
            }
            drop(other);
            (demanded, buffer)
        };
        let (given, (demanded, buffer)) = tokio::join!(given, demanded);
        (given, demanded, buffer)
    }

    #[tokio::test]
    async fn servers_with_the_same_password_meet() {
        for is_required in [false, true] {
            let (given, demanded, rest) = meet(auth("quorumpw", is_required), auth("quorumpw", is_required)).await;
            assert_eq!((given, demanded, rest), (Ok(()), Ok(Some("zkq".to_owned())), b"what follows".to_vec()));
        }
    }

    #[tokio::test]
    async fn a_wrong_password_is_refused_on_both_sides() {
        for is_required in [false, true] {
            let (given, demanded, _) = meet(auth("wrong", true), auth("quorumpw", is_required)).await;
            assert!(given.unwrap_err().contains("is refused there"));
            assert!(demanded.unwrap_err().contains("a wrong user or password"));
        }
    }

    #[tokio::test]
    async fn a_server_without_sasl_comes_in_where_that_is_allowed() {
        let (given, demanded, rest) = meet(Proofs::default(), auth("quorumpw", false)).await;
        assert_eq!((given, demanded, rest), (Ok(()), Ok(None), b"what follows".to_vec()));
        let (_, demanded, _) = meet(Proofs::default(), auth("quorumpw", true)).await;
        assert!(demanded.unwrap_err().contains("quorum.auth.serverRequireSasl=true"));
        let (given, demanded, rest) = meet(Proofs::default(), Proofs::default()).await;
        assert_eq!((given, demanded, rest), (Ok(()), Ok(None), b"what follows".to_vec()));
    }

    #[tokio::test]
    async fn whoever_goes_without_a_word_is_no_failure_where_no_proof_is_required() {
        for (is_required, comes_in) in [(false, true), (true, false)] {
            let (one, mut other) = duplex(7);
            drop(one);
            let (mut reader, mut writer) = split(&mut other);
            let demanded =
                demand(&auth("quorumpw", is_required), LIMIT, &mut reader, &mut writer, &mut Vec::new()).await;
            assert_eq!(demanded.is_ok(), comes_in, "{demanded:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_waited_for_and_no_longer() {
        for (is_required, words, took, comes_in) in [
            (false, &b""[..], SILENCE, true),
            (true, b"", LIMIT, false),
            (false, b"\x5f\x24\x35\x01\x35\x01\xed\xcc", LIMIT, false),
        ] {
            let (mut one, mut other) = duplex(100);
            one.write_all(words).await.unwrap();
            let begin = Instant::now();
            let (mut reader, mut writer) = split(&mut other);
            let demanded =
                demand(&auth("quorumpw", is_required), LIMIT, &mut reader, &mut writer, &mut Vec::new()).await;
            assert_eq!((demanded.is_ok(), begin.elapsed()), (comes_in, took), "{demanded:?}");
        }
    }
}
