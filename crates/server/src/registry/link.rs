//! A connection to another registry, over which requests go one after the other. It is opened when it is needed.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, Request, StatusCode};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::config::PeerAddress;
use super::secure::Dialer;

const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// How long an answer may take, from the first byte of the request to the last of the answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// The longest answer: everything that a server knows.
const MAX_ANSWER_BYTES: usize = 512 << 20;

#[derive(Debug)]
pub(super) struct Link {
    to: PeerAddress,
    dialer: Option<Arc<Dialer>>,
    connection: Option<SendRequest<Body>>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(super) struct Answered {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Link {
    pub fn new(to: PeerAddress, dialer: Option<Arc<Dialer>>) -> Link {
        Link { to, dialer, connection: None }
    }

    /// Everything that the server knows.
    pub async fn fetch(&mut self) -> Result<Answered, String> {
        self.ask(self.request("GET", "apps/", None)?).await
    }

    pub async fn send(&mut self, batch: Vec<u8>) -> Result<Answered, String> {
        self.ask(self.request("POST", "peerreplication/batch/", Some(batch))?).await
    }

    fn request(&self, method: &str, resource: &str, body: Option<Vec<u8>>) -> Result<Request<Body>, String> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{resource}", self.to.path))
            .header(HOST, format!("{}:{}", self.to.host, self.to.port))
            .header("accept", "application/json")
            .header("x-netflix-discovery-replication", "true")
            .header("DiscoveryIdentity-Name", "DefaultServer");
        if let Some(authorization) = &self.to.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let body = match body {
            Some(bytes) => {
                request = request.header(CONTENT_TYPE, "application/json").header(CONTENT_LENGTH, bytes.len());
                Body::from(bytes)
            }
            None => Body::empty(),
        };
        request.body(body).map_err(|error| error.to_string())
    }

    async fn ask(&mut self, request: Request<Body>) -> Result<Answered, String> {
        let asked = tokio::time::timeout(ANSWER_LIMIT, self.exchange(request)).await;
        let answered = asked.unwrap_or_else(|_| Err(format!("no answer within {ANSWER_LIMIT:?}")));
        if answered.is_err() {
            // What comes over it later would be taken for the answer to something else.
            self.connection = None;
        }
        answered
    }

    async fn exchange(&mut self, request: Request<Body>) -> Result<Answered, String> {
        let mut connection = match self.connection.take().filter(|connection| !connection.is_closed()) {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let response = connection.send_request(request).await.map_err(|error| error.to_string())?;
        let (head, body) = response.into_parts();
        let body = axum::body::to_bytes(Body::new(body), MAX_ANSWER_BYTES).await.map_err(|error| error.to_string())?;
        self.connection = Some(connection);
        Ok(Answered { status: head.status, headers: head.headers, body })
    }

    async fn connect(&self) -> Result<SendRequest<Body>, String> {
        let connect = async {
            match self.to.at {
                Some(address) => TcpStream::connect((address, self.to.port)).await,
                None => TcpStream::connect((self.to.host.as_str(), self.to.port)).await,
            }
        };
        let stream = tokio::time::timeout(CONNECT_LIMIT, connect)
            .await
            .map_err(|_| format!("no connection within {CONNECT_LIMIT:?}"))?
            .map_err(|error| error.to_string())?;
        let _ = stream.set_nodelay(true);
        match &self.dialer {
            Some(dialer) if self.to.is_secure => begin(dialer.secure(stream, &self.to.host).await?).await,
            _ => begin(stream).await,
        }
    }
}

async fn begin(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<SendRequest<Body>, String> {
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        // Its end shows at the sender.
        let _ = connection.await;
    });
    Ok(sender)
}
