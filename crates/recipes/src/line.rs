//! What every line is made of: a client, a path, whose names the nodes get, what is in them and who may touch them.

use std::time::Duration;

use tokio::time::timeout;
use uuid::Uuid;
use zookeeper_client::{Acls, Client};

use crate::drive::{Patience, Taking, refused};
use crate::error::Error;
use crate::guard::Guard;
use crate::name::{Layout, join, sequence};
use crate::place::{Place, Rule};

/// How the nodes of one kind of contender are called, and when the turn of one has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) marker: &'static str,
    pub(crate) rule: Rule,
}

#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) client: Client,
    pub(crate) path: String,
    pub(crate) layout: Layout,
    pub(crate) data: Vec<u8>,
    pub(crate) acls: Acls<'static>,
}

impl Line {
    pub(crate) fn new(client: &Client, path: &str) -> Line {
        Line {
            client: client.clone(),
            path: path.to_owned(),
            layout: Layout::default(),
            data: Vec::new(),
            acls: Acls::anyone_all(),
        }
    }

    /// The line below a child of the path.
    pub(crate) fn below(&self, name: &str) -> Line {
        Line { path: join(&self.path, name), ..self.clone() }
    }

    pub(crate) async fn take(&self, kind: Kind) -> Result<Guard, Error> {
        loop {
            if let Some(guard) = self.take_with(kind, Patience::Forever).await? {
                return Ok(guard);
            }
        }
    }

    pub(crate) async fn take_within(&self, kind: Kind, limit: Duration) -> Result<Option<Guard>, Error> {
        match timeout(limit, self.take(kind)).await {
            Ok(guard) => guard.map(Some),
            // The place was dropped with the future, and with it its node.
            Err(_) => Ok(None),
        }
    }

    pub(crate) async fn try_take(&self, kind: Kind) -> Result<Option<Guard>, Error> {
        self.take_with(kind, Patience::None).await
    }

    async fn take_with(&self, kind: Kind, patience: Patience) -> Result<Option<Guard>, Error> {
        let prefix = self.layout.prefix(&Uuid::new_v4().to_string(), kind.marker);
        let place = Place::new(&self.path, prefix, self.data.clone(), kind.rule);
        let holding = Taking::new(&self.client, self.acls, place).hold(patience).await?;
        Ok(holding.map(|holding| Guard::new(&self.client, holding)))
    }

    /// All nodes with one of these markers, in the order of the line.
    pub(crate) async fn contenders(&self, markers: &[&str]) -> Result<Vec<Contender>, Error> {
        let names = loop {
            match self.client.list_children(&self.path).await {
                Ok(names) => break names,
                Err(zookeeper_client::Error::NoNode) => return Ok(Vec::new()),
                Err(error) => refused(&self.path, error)?,
            }
        };
        let mut numbered: Vec<_> =
            names.into_iter().filter_map(|name| Some((sequence(&name, markers)?, name))).collect();
        numbered.sort();
        let mut contenders = Vec::new();
        for (_, name) in numbered {
            let path = join(&self.path, &name);
            loop {
                match self.client.get_data(&path).await {
                    Ok((data, stat)) => {
                        contenders.push(Contender { path, data, token: stat.czxid });
                        break;
                    }
                    Err(zookeeper_client::Error::NoNode) => break,
                    Err(error) => refused(&path, error)?,
                }
            }
        }
        Ok(contenders)
    }
}

/// One node of a line, as it was when the line was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contender {
    /// The whole path of its node.
    pub path: String,
    /// What the contender says of itself.
    pub data: Vec<u8>,
    /// Its fencing token, should it come to hold.
    pub token: i64,
}
