//! The resources of Eureka over HTTP, without the connections: a request in, an answer and what other servers are to hear of it out.
//!
//! - `request.rs`: which resource a request asks for, in which form it wants the answer, and what is refused before the registry is asked
//! - `said.rs`: what the body of a request says
//! - `answer.rs`: what the registry is asked, and the answer
//! - `changes.rs`: changes at once, beside the polling of the original
//! - `consistent.rs`: requests that concern services in the coordination tree
//! - `error_page.rs`: the bodies of refusals
//!
//! A request takes three steps, so that neither reading nor encoding holds up anybody: [`Request::with_body`] without the registry, [`Request::ask`] with the
//! registry at hand, [`Asked::answer`] without. What another server sent at once is taken in slices before: [`Request::take_slice`].
//!
//! Peculiarities are those of Spring's server, which mounts everything under `/eureka`: `v2` in the path means nothing, `v1` and `v3` are unknown.

mod answer;
mod changes;
mod consistent;
mod error_page;
mod request;
mod said;

pub use self::answer::{Asked, Change, Kind};
pub(crate) use self::changes::Told;
pub use self::changes::{VERSION_HEADER, Version};
pub use self::consistent::Way;
pub use self::request::{Parts, Request, read};
use self::said::Said;

use crate::encoding::{Body, Format, Server};

/// An answer, to be sent.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub status: u16,
    /// None where there is no body.
    pub content_type: Option<&'static str>,
    pub gzip: bool,
    /// The methods that the resource knows, where another was used or they were asked for.
    pub allow: Option<&'static str>,
    /// The moment that a list shows, for those who follow the changes.
    pub version: Option<Version>,
    pub body: Body,
}

/// What a server says of itself.
pub fn about_server(server: &Server, format: Format) -> Answer {
    let content_type = match format {
        Format::Json => JSON,
        Format::Xml => XML,
    };
    Answer::with(200, content_type, server.write(format))
}

const JSON: &str = "application/json";
const XML: &str = "application/xml";

impl Answer {
    fn empty(status: u16) -> Answer {
        Answer { status, ..Answer::default() }
    }

    fn with(status: u16, content_type: &'static str, body: Vec<u8>) -> Answer {
        Answer { status, content_type: Some(content_type), body: bytes::Bytes::from(body).into(), ..Answer::default() }
    }
}
