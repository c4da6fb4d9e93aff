//! `rookeeper top`: a live view of any ensemble, Apache's too.
//!
//! - `ask.rs`: the questions; `facts.rs`: what the answers say
//! - `screen.rs`: what is shown, without a terminal; `view.rs`: how it looks
//!
//! What always holds here: nothing is changed by looking, and nothing is asked more often than the interval says.

pub mod ask;
pub mod facts;
pub mod screen;
pub mod view;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use rookeeper_server::config::ClientFlags;

use self::ask::Questions;
use self::facts::Member;
use self::screen::{Look, PAGES, Page};
use crate::dialler::{Dialler, TlsFlags};
use crate::print;

/// Whom to look at, and how.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// HOST:PORT[,HOST:PORT...]: the client ports of the members
    #[arg(long, default_value = "localhost:2181", value_delimiter = ',', value_name = "HOST:PORT")]
    pub server: Vec<String>,

    /// The admin port of the members, which tells of paths and slow operations; 0 asks none
    #[arg(long, default_value_t = 8080, value_name = "PORT")]
    pub admin_port: u16,

    /// A file with a line `user:password`, for admin ports of other machines
    #[arg(long, value_name = "FILE")]
    pub auth_file: Option<PathBuf>,

    /// The admin ports speak TLS too
    #[arg(long)]
    pub admin_tls: bool,

    /// Seconds between two looks
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub interval: u64,

    /// Print everything once as text, after two looks that are an interval apart
    #[arg(long)]
    pub once: bool,

    #[command(flatten)]
    pub tls: TlsFlags,
}

/// Exit code 0: it was shown; 1: no member answered, or there is no terminal.
pub fn main(options: &Options) -> u8 {
    let questions = match questions(options) {
        Ok(questions) => questions,
        Err(problem) => return failed(&problem),
    };
    let interval = Duration::from_secs(options.interval);
    if options.once { once(&questions, interval) } else { live(&questions, interval) }
}

fn failed(problem: &str) -> u8 {
    print::complaint(&problem);
    1
}

fn questions(options: &Options) -> Result<Questions, String> {
    let authorization = match &options.auth_file {
        None => None,
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
            Some(ask::authorization(text.lines().next().unwrap_or_default()))
        }
    };
    let admin_port = Some(options.admin_port).filter(|port| *port > 0);
    let dialler = Dialler::open(&ClientFlags::from(&options.tls)).map_err(|error| format!("{error:#}"))?;
    if options.admin_tls && !dialler.speaks_tls() {
        return Err("--admin-tls needs to know whom to trust: --tls-ca FILE, or --tls with CLIENT_JVMFLAGS".to_owned());
    }
    let servers = options.server.clone();
    Ok(Questions { servers, admin_port, authorization, dialler, admin_tls: options.admin_tls })
}

fn look(questions: &Questions, start: Instant) -> Look {
    let answers = questions.ask();
    let members = questions.servers.iter().cloned().zip(answers.iter().map(Member::read)).collect();
    Look { at_s: start.elapsed().as_secs_f64(), members }
}

fn once(questions: &Questions, interval: Duration) -> u8 {
    let start = Instant::now();
    let before = look(questions, start);
    std::thread::sleep(interval);
    let now = look(questions, start);
    let is_told = print::result(&view::text(&now, Some(&before)).trim_end());
    let serves = now.members.iter().any(|(_, member)| member.mode.is_some());
    if is_told && serves { 0 } else { 1 }
}

fn live(questions: &Questions, interval: Duration) -> u8 {
    let mut terminal = match ratatui::try_init() {
        Ok(terminal) => terminal,
        Err(error) => {
            let problem = format!("there is no terminal to draw on: {error}; --once prints text");
            return failed(&problem);
        }
    };
    let shown = show(&mut terminal, questions, interval);
    ratatui::restore();
    match shown {
        Ok(()) => 0,
        Err(error) => failed(&format!("the terminal failed: {error}")),
    }
}

/// Until somebody quits.
fn show(terminal: &mut DefaultTerminal, questions: &Questions, interval: Duration) -> std::io::Result<()> {
    let start = Instant::now();
    let (mut page, mut before, mut now) = (Page::default(), None, look(questions, start));
    loop {
        let due = Instant::now() + interval;
        loop {
            terminal.draw(|frame| view::draw(frame, &now, before.as_ref(), page))?;
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() || !event::poll(left)? {
                break;
            }
            let Event::Key(key) = event::read()? else { continue };
            match key.code {
                _ if key.kind != KeyEventKind::Press => {}
                KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(()),
                code => page = turned(page, code),
            }
        }
        before = Some(std::mem::replace(&mut now, look(questions, start)));
    }
}

/// The page that a key leads to.
fn turned(page: Page, code: KeyCode) -> Page {
    let at = PAGES.iter().position(|(other, _)| *other == page).unwrap_or(0);
    let to = match code {
        KeyCode::Tab | KeyCode::Right => (at + 1) % PAGES.len(),
        KeyCode::BackTab | KeyCode::Left => (at + PAGES.len() - 1) % PAGES.len(),
        KeyCode::Char(digit) => digit.to_digit(10).map_or(at, |digit| (digit as usize).wrapping_sub(1)),
        _ => at,
    };
    PAGES.get(to).map_or(page, |(page, _)| *page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_turn_pages() {
        assert_eq!(turned(Page::Clients, KeyCode::Tab), Page::Paths);
        assert_eq!(turned(Page::Clients, KeyCode::Left), Page::Slow);
        assert_eq!(turned(Page::Slow, KeyCode::Right), Page::Clients);
        assert_eq!(turned(Page::Clients, KeyCode::Char('3')), Page::Stages);
        for other in [KeyCode::Char('0'), KeyCode::Char('9'), KeyCode::Char('x'), KeyCode::Up] {
            assert_eq!(turned(Page::Paths, other), Page::Paths);
        }
    }
}
