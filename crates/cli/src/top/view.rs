//! How a screen looks: with colours in a terminal, as plain text for scripts.

use std::fmt::Write as _;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row, Table as TableWidget};

use super::screen::{self, Cell, Look, PAGES, Page, Table, Tone};

/// A column is not wider than this in a terminal; text for scripts is not cut.
const MAX_WIDTH: usize = 48;

/// Draws a look at the ensemble.
pub fn draw(frame: &mut Frame<'_>, look: &Look, before: Option<&Look>, page: Page) {
    let members = screen::members(look, before);
    let height = members.rows.len() as u16 + 2;
    let [head, above, tabs, below] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(height),
        Constraint::Length(1),
        Constraint::Min(0),
    ])
    .areas(frame.area());
    let verdict = screen::verdict(look);
    frame.render_widget(Paragraph::new(Line::styled(verdict.text, style(verdict.tone))), head);
    table(frame, above, &members);
    let mut names: Vec<Span<'_>> = Vec::new();
    for (number, (other, name)) in PAGES.iter().enumerate() {
        let style = if *other == page { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        names.push(Span::styled(format!(" {} {name} ", number + 1), style));
    }
    names.push(Span::raw("  q quits"));
    frame.render_widget(Paragraph::new(Line::from(names)), tabs);
    let tables = screen::page(page, look, before);
    let places =
        Layout::vertical(tables.iter().map(|table| Constraint::Max(table.rows.len().max(1) as u16 + 3))).split(below);
    tables.iter().zip(places.iter()).for_each(|(shown, place)| table(frame, *place, shown));
}

fn style(tone: Tone) -> Style {
    match tone {
        Tone::Plain => Style::new(),
        Tone::Good => Style::new().fg(Color::Green),
        Tone::Alarm => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
    }
}

fn table(frame: &mut Frame<'_>, place: Rect, shown: &Table) {
    let [title, rest] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(place);
    frame.render_widget(
        Paragraph::new(Line::styled(shown.title.clone(), Style::new().add_modifier(Modifier::BOLD))),
        title,
    );
    if shown.rows.is_empty() {
        frame.render_widget(Paragraph::new(shown.otherwise), rest);
        return;
    }
    let widths = widths(shown).into_iter().map(|width| Constraint::Length(width.min(MAX_WIDTH) as u16));
    let head = Row::new(shown.head.iter().copied()).style(Style::new().add_modifier(Modifier::UNDERLINED));
    let styled = |cell: &Cell| Span::styled(printable(&cell.text), style(cell.tone));
    let is_whole = |row: &[Cell]| row.len() == shown.head.len();
    let rows = shown.rows.iter().map(|row| Row::new(row.iter().filter(|_| is_whole(row)).map(styled)));
    frame.render_widget(TableWidget::new(rows, widths).header(head).column_spacing(2), rest);
    // A member that does not serve says why, over all columns.
    for (line, row) in (1..rest.height).zip(&shown.rows).filter(|(_, row)| !is_whole(row)) {
        let place = Rect { y: rest.y + line, height: 1, ..rest };
        let cells: Vec<Span<'_>> = row.iter().flat_map(|cell| [styled(cell), Span::raw("  ")]).collect();
        frame.render_widget(Paragraph::new(Line::from(cells)), place);
    }
}

/// The same as text, with all pages one below the other.
pub fn text(look: &Look, before: Option<&Look>) -> String {
    let mut text = format!("{}\n\n", screen::verdict(look).text);
    let pages = PAGES.iter().flat_map(|(page, _)| screen::page(*page, look, before));
    for shown in std::iter::once(screen::members(look, before)).chain(pages) {
        let _ = writeln!(text, "{}", shown.title);
        if shown.rows.is_empty() {
            let _ = writeln!(text, "  {}\n", shown.otherwise);
            continue;
        }
        let widths = widths(&shown);
        let mut line = |cells: Vec<String>| {
            let padded: Vec<String> =
                cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
            let _ = writeln!(text, "  {}", padded.join("  ").trim_end());
        };
        line(shown.head.iter().map(|head| (*head).to_owned()).collect());
        shown.rows.iter().for_each(|row| line(row.iter().map(|cell| printable(&cell.text)).collect()));
        text.push('\n');
    }
    text
}

/// How wide each column has to be.
fn widths(shown: &Table) -> Vec<usize> {
    let width = |column: usize| {
        // What a member says instead of figures is no column.
        let full = shown.rows.iter().filter(|row| row.len() == shown.head.len());
        let cells = full.filter_map(|row| row.get(column)).map(|cell: &Cell| cell.text.chars().count());
        cells.max().unwrap_or(0).max(shown.head[column].len())
    };
    (0..shown.head.len()).map(width).collect()
}

/// A name that a client chose must not move the cursor.
fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '?' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::top::facts::{Answers, Member, Names};

    fn recorded(role: &str, at_s: f64) -> (String, Member, f64) {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/operations");
        let read = |name: &str| std::fs::read_to_string(format!("{path}/{role}/4lw-{name}.txt")).ok();
        let answers = Answers { srvr: read("srvr"), mntr: read("mntr"), cons: read("cons"), ..Answers::default() };
        (format!("{role}:2181"), Member::read(&answers), at_s)
    }

    fn look(at_s: f64, more: u64) -> Look {
        let members = ["leader", "follower", "not-serving"].map(|role| {
            let (address, mut member, _) = recorded(role, at_s);
            member.received = member.received.map(|received| received + more);
            (address, member)
        });
        Look { at_s, members: members.into() }
    }

    fn drawn(look: &Look, before: Option<&Look>, page: Page) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(140, 24)).expect("a terminal");
        terminal.draw(|frame| draw(frame, look, before, page)).expect("it is drawn");
        let buffer = terminal.backend().buffer();
        let line = |y| (0..140).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..24).map(line).collect()
    }

    #[test]
    fn the_members_and_their_clients_are_shown_with_rates() {
        let lines = drawn(&look(12.0, 500), Some(&look(10.0, 0)), Page::Clients);
        assert_eq!(lines[0], "1 of 3 members do not serve");
        let leader = lines.iter().find(|line| line.starts_with("leader:2181")).expect("it is shown");
        let cells: Vec<&str> = leader.split_whitespace().collect();
        assert_eq!(cells[..8], ["leader:2181", "leader", "0x1000000a6", "2", "0", "250", "2.0", "11"], "{leader}");
        assert!(
            lines.iter().any(|line| line.starts_with("not-serving:2181") && line.contains("This ZooKeeper instance")),
            "{lines:#?}"
        );
        assert!(
            lines.iter().any(|line| line.contains("1 clients") && line.contains("4 slow operations")),
            "{lines:#?}"
        );
        assert!(lines.iter().any(|line| line.starts_with("127.0.0.1:58056")), "{lines:#?}");
    }

    #[test]
    fn what_a_member_does_not_tell_is_said_with_the_remedy() {
        let lines = drawn(&look(1.0, 0), None, Page::Slow);
        assert!(lines.iter().any(|line| line.contains("slow_operations does, at its admin port")), "{lines:#?}");
        // Of one look alone there are no rates.
        let leader = lines.iter().find(|line| line.starts_with("leader:2181")).expect("it is shown");
        assert_eq!(leader.split_whitespace().nth(5), Some("-"));
    }

    #[test]
    fn text_has_every_page_and_no_control_characters() {
        let mut look = look(1.0, 0);
        let evil =
            Names { about: "paths".into(), measure: "requests".into(), largest: vec![("/a\x1b[2J\nb".to_owned(), 7)] };
        look.members[0].1.top.push(evil.clone());
        look.members[1].1.top.push(evil);
        let text = text(&look, None);
        assert!(text.contains("\npaths by requests\n  count  name\n  14     /a?[2J?b\n"), "{text}");
        for title in ["members\n", "clients, by requests\n", "stages of requests", "operations that took long\n"] {
            assert!(text.contains(title), "{text}");
        }
    }

    #[test]
    fn an_ensemble_without_a_leader_or_with_two_is_an_alarm() {
        let with = |roles: &[&str]| {
            let members = roles.iter().map(|role| {
                let mode = Some((*role).to_owned()).filter(|role| role != "silent");
                ((*role).to_owned(), Member { mode, ..Member::default() })
            });
            screen::verdict(&Look { at_s: 0.0, members: members.collect() })
        };
        assert_eq!(with(&["leader", "follower", "observer"]).tone, Tone::Good);
        assert_eq!(with(&["standalone"]).tone, Tone::Good);
        assert_eq!(with(&["leader", "leader"]).text, "2 members say that they lead");
        assert_eq!(with(&["follower", "follower"]).text, "nobody leads");
        assert_eq!(with(&["silent", "silent"]).text, "nobody serves");
        assert_eq!(with(&["follower"]).tone, Tone::Plain);
    }
}
