//! The handshake. Both records end with an optional byte: clients older than read-only mode do not send it, and get none back.

use rookeeper_jute::{self as jute, Buffer};
use serde::Serialize;

use crate::ids::{SessionId, Zxid};

/// What a client sends first on a connection, in a frame without a request header: asks for a new session, or to go on with one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectRequest {
    pub protocol_version: i32,
    pub last_zxid_seen: Zxid,
    pub timeout_ms: i32,
    /// 0 asks for a new session.
    pub session: SessionId,
    pub password: Vec<u8>,
    /// Absent from old clients.
    pub read_only: Option<bool>,
}

impl ConnectRequest {
    /// Decodes the payload of the first frame of a connection.
    pub fn decode(payload: &[u8]) -> jute::Result<ConnectRequest> {
        let mut input = jute::Deserializer::new(payload);
        Ok(ConnectRequest {
            protocol_version: input.read()?,
            last_zxid_seen: input.read()?,
            timeout_ms: input.read()?,
            session: input.read()?,
            password: input.read::<Option<Buffer<'_>>>()?.unwrap_or_default().to_vec(),
            read_only: input.rest().first().map(|byte| *byte != 0),
        })
    }

    /// The payload of the frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut payload = Vec::with_capacity(45);
        jute::append(
            &mut payload,
            &(self.protocol_version, self.last_zxid_seen, self.timeout_ms, self.session, Buffer(&self.password)),
        );
        payload.extend(self.read_only.map(u8::from));
        payload
    }
}

/// The server's answer to a [`ConnectRequest`], in a frame without a reply header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectResponse {
    /// Negotiated; 0 says that the session is gone.
    pub timeout_ms: i32,
    pub session: SessionId,
    pub password: [u8; 16],
    /// Present where the request had it.
    pub read_only: Option<bool>,
}

impl ConnectResponse {
    /// The answer to a session that has expired, never was, or was named with a wrong password.
    pub fn refused(read_only: Option<bool>) -> ConnectResponse {
        ConnectResponse { timeout_ms: 0, session: SessionId::NONE, password: [0; 16], read_only }
    }

    /// Decodes the payload of the first frame a server sends. Fails where it is too short, or the password is not 16 bytes.
    pub fn decode(payload: &[u8]) -> jute::Result<ConnectResponse> {
        let mut input = jute::Deserializer::new(payload);
        let _protocol_version: i32 = input.read()?;
        let (timeout_ms, session) = (input.read()?, input.read()?);
        let password = input.read::<Buffer<'_>>()?;
        Ok(ConnectResponse {
            timeout_ms,
            session,
            password: password.0.try_into().map_err(|_| jute::Error::Custom("password is not 16 bytes".into()))?,
            read_only: input.rest().first().map(|byte| *byte != 0),
        })
    }

    /// Appends the payload of the frame.
    pub fn append(&self, output: &mut Vec<u8>) {
        #[derive(Serialize)]
        struct Fields<'a>(i32, i32, SessionId, Buffer<'a>);
        jute::append(output, &Fields(0, self.timeout_ms, self.session, Buffer(&self.password)));
        output.extend(self.read_only.map(u8::from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_read_only_byte_is_optional() {
        for read_only in [None, Some(false), Some(true)] {
            let request = ConnectRequest {
                protocol_version: 0,
                last_zxid_seen: Zxid(5),
                timeout_ms: 30_000,
                session: SessionId(1),
                password: vec![1; 16],
                read_only,
            };
            let payload = request.encode();
            assert_eq!(payload.len(), 44 + usize::from(read_only.is_some()));
            assert_eq!(ConnectRequest::decode(&payload), Ok(request));
        }
    }

    #[test]
    fn a_refusal_is_all_zeros() {
        let mut payload = Vec::new();
        ConnectResponse::refused(Some(false)).append(&mut payload);
        let mut zeros = vec![0; 37];
        zeros[19] = 16;
        assert_eq!(payload, zeros);
    }
}
