//! Connections of clients: the line between a client and the task that serves the client (`tasks.rs`).
//!
//! What always holds here:
//! - bytes of a line arrive in order;
//! - no more bytes are on their way to a client that does not read than sockets hold;
//! - the end of a client that closes arrives behind everything that the client has sent;
//! - the end of a client that is gone without a word never arrives.

use crate::checkers::connections::Lingering;
use crate::scenes::Cue;
use crate::tasks::Task;
use crate::world::{Event, World};

/// Bytes that wait at a client which does not read before its server can't send any more.
const SOCKET_BYTES: usize = 2000;
/// Where values are large.
const LARGE_SOCKET_BYTES: usize = 128 << 10;

/// One connection of a client, both ends.
#[derive(Debug)]
pub(crate) struct Line {
    pub client: usize,
    pub server: usize,
    pub life: u32,
    /// The server's side, from when it accepts until it is done with the client.
    pub task: Option<Box<Task>>,
    pub closed_by_server: bool,
    /// The client has closed, or is gone: it reads nothing any more.
    pub is_left: bool,
    pub to_server_us: i64,
    pub to_client_us: i64,
    /// A planted bug keeps an event back.
    pub kept_back: Option<Vec<u8>>,
    /// Sent by the server and not read by the client, wherever it is.
    pub unread_bytes: usize,
    /// The part of those bytes that has arrived.
    pub arrived: Vec<u8>,
    /// The bytes that the client has read of an answer that is not there as a whole.
    pub begun: Vec<u8>,
    pub lingering: Lingering,
}

impl Line {
    /// A connection that begins at `now_us`, to the process that is the server's `life`-th.
    pub fn new(client: usize, server: usize, life: u32, now_us: i64) -> Line {
        Line {
            client,
            server,
            life,
            task: None,
            closed_by_server: false,
            is_left: false,
            to_server_us: now_us,
            to_client_us: now_us,
            kept_back: None,
            unread_bytes: 0,
            arrived: Vec::new(),
            begun: Vec::new(),
            lingering: Lingering::default(),
        }
    }
}

impl World {
    /// A client has connected.
    pub(crate) fn line_opened(&mut self, line: u64) {
        let Some(state) = self.lines.get_mut(&line) else { return };
        let this = &self.servers[state.server];
        if this.process.is_none() {
            if this.powered {
                self.lose_line(line);
            }
            return;
        }
        state.life = this.life;
        self.accept(line);
    }

    pub(crate) fn frame_arrives(&mut self, line: u64, frame: Vec<u8>) {
        let Some(state) = self.lines.get_mut(&line) else { return };
        let this = &self.servers[state.server];
        let Some(task) = state.task.as_mut().filter(|_| state.life == this.life) else {
            // The process that runs now has not accepted this connection.
            if this.powered && this.process.is_some() && (state.life != this.life || !state.closed_by_server) {
                self.lose_line(line);
            }
            return;
        };
        task.arrives(Some(frame));
        state.lingering.heard();
        self.run_line(line);
        self.cue(Cue::Arrives { line });
    }

    /// The client has closed.
    pub(crate) fn line_closed(&mut self, line: u64) {
        let Some(state) = self.lines.get_mut(&line) else { return };
        match &mut state.task {
            Some(task) if state.life == self.servers[state.server].life => {
                task.arrives(None);
                self.run_line(line);
            }
            _ => drop(self.lines.remove(&line)),
        }
    }

    /// The client hears that nobody is there any more.
    pub(crate) fn lose_line(&mut self, line: u64) {
        let delay_us = self.network_delay_us();
        let Some(state) = self.lines.get_mut(&line) else { return };
        state.closed_by_server = true;
        state.task = None;
        if state.is_left {
            self.lines.remove(&line);
            return;
        }
        let at_us = state.to_client_us.max(self.now_us + delay_us);
        self.schedule(at_us, Event::LineLost { line });
    }

    /// The bytes that the sockets of a line take.
    pub(crate) fn room_in(&self, state: &Line) -> usize {
        let all = if self.plan.habits.large_values { LARGE_SOCKET_BYTES } else { SOCKET_BYTES };
        all.saturating_sub(state.unread_bytes)
    }

    pub(crate) fn send_to_client(&mut self, line: u64, bytes: Vec<u8>) {
        let delay_us = self.network_delay_us();
        let Some(state) = self.lines.get_mut(&line) else { return };
        state.unread_bytes += bytes.len();
        let at_us = state.to_client_us.max(self.now_us + delay_us);
        state.to_client_us = at_us;
        self.schedule(at_us, Event::Answers { line, bytes });
    }

    /// The client has read so much, so that there is room for more.
    pub(crate) fn note_read(&mut self, line: u64, bytes: usize) {
        let delay_us = self.network_delay_us();
        let Some(state) = self.lines.get_mut(&line) else { return };
        state.unread_bytes -= bytes;
        if state.task.as_ref().is_some_and(|task| task.unsent_bytes() > 0) {
            self.schedule(self.now_us + delay_us, Event::LineWoken { line });
        }
    }

    /// The process of these lines is gone.
    pub(crate) fn lines_gone(&mut self, server: usize, told: bool) {
        for line in self.lines_of(server) {
            if told {
                self.lose_line(line);
            } else if let Some(state) = self.lines.get_mut(&line) {
                state.closed_by_server = true;
                state.task = None;
                if state.is_left {
                    self.lines.remove(&line);
                }
            }
        }
    }

    /// The connections of a server's clients break.
    pub(crate) fn cut_lines(&mut self, server: usize) {
        for line in self.lines_of(server) {
            self.end_line(line);
            self.lose_line(line);
        }
    }

    fn lines_of(&self, server: usize) -> Vec<u64> {
        self.lines.iter().filter(|(_, line)| line.server == server).map(|(line, _)| *line).collect()
    }

    pub(crate) fn lines_stand_still(&mut self, server: usize) {
        for line in self.lines.values_mut().filter(|line| line.server == server) {
            line.lingering.stands_still();
        }
    }

    /// No connection outlives its client for long.
    pub(crate) fn look_for_lingering(&mut self) {
        let now_us = self.now_us;
        for line in self.lines.keys().copied().collect::<Vec<_>>() {
            let Some(state) = self.lines.get_mut(&line) else { continue };
            let this = &self.servers[state.server];
            let process = this.process.as_ref().filter(|_| !this.frozen && this.life == state.life);
            let (Some(task), Some(process)) = (&state.task, process) else { continue };
            let facts = task.facts(process, &self.plan);
            let verdict = state.lingering.look(now_us, facts);
            let (client, server) = (state.client, state.server + 1);
            if let Err(problem) = verdict {
                self.violated(format!("{problem} (client {client} at server {server})"));
            }
        }
    }
}
