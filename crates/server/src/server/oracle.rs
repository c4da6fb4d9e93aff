//! Asks the oracle of two members whether this server may go on alone: a file of this server's own, whose first character is `1` for yes.
//!
//! What always holds here: a file that is missing, can't be read in time or begins with anything else is a no; whoever asks keeps nothing of
//! the server alive.
//!
//! Counterpart in the original: `QuorumOracleMaj.askOracle`, which reads the file at every decision.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rookeeper_replica::Input;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tracing::info;

/// How long another word of the oracle may be unknown here.
const EVERY: Duration = Duration::from_millis(100);

/// A file that takes longer to read says no.
const PATIENCE: Duration = Duration::from_millis(500);

/// Tells the replica what the oracle says, until the server stops.
pub(super) async fn ask(inputs: mpsc::WeakSender<Input>, path: PathBuf) {
    let mut said = Word::Nothing;
    loop {
        let file = path.clone();
        let mut reading = tokio::task::spawn_blocking(move || read(&file));
        let word = match timeout(PATIENCE, &mut reading).await {
            Ok(Ok(word)) => word,
            Ok(Err(_)) => return,
            Err(_) => {
                let late = Word::Unreadable(format!("it can't be read within {} ms", PATIENCE.as_millis()));
                if !tell(&inputs, &path, &mut said, late).await || reading.await.is_err() {
                    return;
                }
                continue;
            }
        };
        if !tell(&inputs, &path, &mut said, word).await {
            return;
        }
        sleep(EVERY).await;
    }
}

/// What the oracle says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    /// It was not asked yet.
    Nothing,
    Yes,
    No,
    Unreadable(String),
}

/// Hands on a word that is new. False where nobody listens any more.
async fn tell(inputs: &mpsc::WeakSender<Input>, path: &Path, said: &mut Word, word: Word) -> bool {
    if *said == word {
        return inputs.upgrade().is_some();
    }
    let path = path.display();
    match &word {
        Word::Yes => info!("the oracle {path} says yes: this server may go on where the other member is gone"),
        Word::No => info!("the oracle {path} says no: this server needs the other member"),
        Word::Unreadable(why) => info!("the oracle {path} says nothing, which is a no: {why}"),
        Word::Nothing => {}
    }
    let grants = word == Word::Yes;
    *said = word;
    let Some(inputs) = inputs.upgrade() else { return false };
    inputs.send(Input::Oracle { grants }).await.is_ok()
}

fn read(path: &Path) -> Word {
    match first_byte(path) {
        Ok(Some(b'1')) => Word::Yes,
        Ok(_) => Word::No,
        Err(error) => Word::Unreadable(error.to_string()),
    }
}

fn first_byte(path: &Path) -> io::Result<Option<u8>> {
    // A pipe that nobody writes to must not be waited for.
    let mut file = File::options().read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32).open(path)?;
    let mut byte = [0];
    Ok((file.read(&mut byte)? > 0).then_some(byte[0]))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_a_one_at_the_beginning_is_a_yes() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("oracle");
        assert!(matches!(read(&path), Word::Unreadable(_)));
        assert!(matches!(read(home.path()), Word::Unreadable(_)));
        for (text, word) in [
            ("1", Word::Yes),
            ("1\n", Word::Yes),
            ("0\n", Word::No),
            ("", Word::No),
            (" 1", Word::No),
            ("yes", Word::No),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(read(&path), word, "{text:?}");
        }
    }

    #[tokio::test]
    async fn the_replica_is_told_what_is_new_until_nobody_listens() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("oracle");
        fs::write(&path, "1").unwrap();
        let (sender, mut inputs) = mpsc::channel(8);
        let asking = tokio::spawn(ask(sender.downgrade(), path.clone()));
        assert!(matches!(inputs.recv().await, Some(Input::Oracle { grants: true })));
        fs::write(&path, "0").unwrap();
        assert!(matches!(inputs.recv().await, Some(Input::Oracle { grants: false })));
        fs::write(&path, "1").unwrap();
        assert!(matches!(inputs.recv().await, Some(Input::Oracle { grants: true })));
        fs::remove_file(&path).unwrap();
        assert!(matches!(inputs.recv().await, Some(Input::Oracle { grants: false })));
        drop(sender);
        asking.await.unwrap();
    }
}
