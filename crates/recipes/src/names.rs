//! Names: what is bound to them is found by everybody, and they form a hierarchy.
//!
//! What always holds: a name is bound to one value at a time, and of several that bind it at once one succeeds. Layout: the name `billing/db` is the node of
//! that path below the base, its data is the value. A node without data is a branch alone, and no name is bound to nothing.

use zookeeper_client::{Acls, Client, CreateMode, Error as ClientError};

use crate::drive::refused;
use crate::error::Error;
use crate::name::{join, parent};

/// What a name is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    pub name: String,
    pub value: Vec<u8>,
    /// The zxid of the binding: greater than that of all bindings before.
    pub zxid: i64,
}

/// A space of names, such as `billing/db/primary`, below one path.
///
/// | what happens | what follows |
/// | --- | --- |
/// | the connection is lost | the request is made again |
/// | the answer to a `bind` is lost | the name is looked up: bound to the same value, the bind has succeeded, whoever did it |
/// | the session expires, the process dies | names stay bound |
/// | a future is dropped | the request may have been carried out or not: look the name up |
///
/// ```
/// # rookeeper_acceptance::example(async |address: String| {
/// use rookeeper_recipes::Names;
/// use zookeeper_client::Client;
///
/// let client = Client::connect(&address).await?;
/// let names = Names::new(&client, "/names");
/// names.bind("billing/db", b"db7:5432").await?;
/// assert_eq!(names.lookup("billing/db").await?.expect("it is bound").value, b"db7:5432");
/// assert!(names.bind("billing/db", b"another").await.is_err());
/// // What is bound further up holds for all below.
/// let nearest = names.nearest("billing/db/replica").await?.expect("one of them is bound");
/// assert_eq!(nearest.name, "billing/db");
/// # anyhow::Ok(()) });
/// ```
#[derive(Debug, Clone)]
pub struct Names {
    client: Client,
    base: String,
    acls: Acls<'static>,
}

impl Names {
    /// The names below the path `base`. Nothing is sent yet.
    pub fn new(client: &Client, base: &str) -> Names {
        Names { client: client.clone(), base: base.to_owned(), acls: Acls::anyone_all() }
    }

    /// Who may do what with the nodes; everybody everything if nothing is said.
    pub fn with_acls(mut self, acls: Acls<'static>) -> Names {
        self.acls = acls;
        self
    }

    /// Binds a name that is not bound. Bound to the same value already, it counts as bound by this: put an id into the value where two must not both
    /// believe that it is theirs.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with `NodeExists` where it is bound to something else, and with `BadArguments` for an empty value or a name that is none;
    /// [`Error::SessionEnded`].
    pub async fn bind(&self, name: &str, value: &[u8]) -> Result<Bound, Error> {
        self.put(name, value, |bound| bound.is_empty()).await
    }

    /// Binds a name, whatever it was bound to before.
    ///
    /// # Errors
    ///
    /// As [`bind`](Names::bind), but for `NodeExists`.
    pub async fn rebind(&self, name: &str, value: &[u8]) -> Result<Bound, Error> {
        self.put(name, value, |_| true).await
    }

    async fn put(&self, name: &str, value: &[u8], may_replace: impl Fn(&[u8]) -> bool) -> Result<Bound, Error> {
        let path = join(&self.base, name);
        let refusal = |error| Error::Refused { path: path.clone(), error };
        if value.is_empty() {
            return Err(refusal(ClientError::BadArguments(&"a name cannot be bound to nothing")));
        }
        let options = CreateMode::Persistent.with_acls(self.acls);
        let bound = |zxid| Bound { name: name.to_owned(), value: value.to_vec(), zxid };
        loop {
            match self.client.create(&path, value, &options).await {
                Ok((stat, _)) => return Ok(bound(stat.mzxid)),
                Err(ClientError::NodeExists) => {}
                Err(ClientError::NoNode) => {
                    let made = self.client.mkdir(parent(&path), &options).await;
                    made.or_else(|error| refused(&path, error))?;
                    continue;
                }
                Err(error) => {
                    refused(&path, error)?;
                    continue;
                }
            }
            let there = match self.client.sync(&path).await {
                Ok(()) => self.client.get_data(&path).await,
                Err(error) => Err(error),
            };
            let set = match there {
                Ok((data, stat)) if data == value => return Ok(bound(stat.mzxid)),
                Ok((data, _)) if !may_replace(&data) => return Err(refusal(ClientError::NodeExists)),
                Ok((_, stat)) => self.client.set_data(&path, value, Some(stat.version)).await,
                Err(error) => Err(error),
            };
            match set {
                Ok(stat) => return Ok(bound(stat.mzxid)),
                Err(ClientError::NoNode | ClientError::BadVersion) => {}
                Err(error) => refused(&path, error)?,
            }
        }
    }

    /// What a name is bound to, as the server sees it that is asked.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], [`Error::SessionEnded`].
    pub async fn lookup(&self, name: &str) -> Result<Option<Bound>, Error> {
        let path = join(&self.base, name);
        loop {
            match self.client.get_data(&path).await {
                Ok((value, _)) if value.is_empty() => return Ok(None),
                Ok((value, stat)) => return Ok(Some(Bound { name: name.to_owned(), value, zxid: stat.mzxid })),
                Err(ClientError::NoNode) => return Ok(None),
                Err(error) => refused(&path, error)?,
            }
        }
    }

    /// What the name is bound to, or else the nearest name above it that is bound: of `a/b/c` then `a/b`, then `a`. All are asked at once.
    ///
    /// # Errors
    ///
    /// As [`lookup`](Names::lookup).
    pub async fn nearest(&self, name: &str) -> Result<Option<Bound>, Error> {
        'again: loop {
            let ends = std::iter::once(name.len()).chain(name.rmatch_indices('/').map(|(end, _)| end));
            let asked: Vec<_> =
                ends.map(|end| (&name[..end], self.client.get_data(&join(&self.base, &name[..end])))).collect();
            for (name, answer) in asked {
                match answer.await {
                    Ok((value, _)) if value.is_empty() => {}
                    Ok((value, stat)) => return Ok(Some(Bound { name: name.to_owned(), value, zxid: stat.mzxid })),
                    Err(ClientError::NoNode) => {}
                    Err(error) => {
                        refused(&join(&self.base, name), error)?;
                        continue 'again;
                    }
                }
            }
            return Ok(None);
        }
    }

    /// The names, and branches, right below a name, or below the base where it is empty.
    ///
    /// # Errors
    ///
    /// As [`lookup`](Names::lookup).
    pub async fn list(&self, name: &str) -> Result<Vec<String>, Error> {
        let path = if name.is_empty() { self.base.clone() } else { join(&self.base, name) };
        loop {
            match self.client.list_children(&path).await {
                Ok(mut names) => {
                    names.sort();
                    return Ok(names);
                }
                Err(ClientError::NoNode) => return Ok(Vec::new()),
                Err(error) => refused(&path, error)?,
            }
        }
    }

    /// Sees to it that a name is not bound, and removes branches above it that lead nowhere any more.
    ///
    /// # Errors
    ///
    /// As [`lookup`](Names::lookup).
    pub async fn unbind(&self, name: &str) -> Result<(), Error> {
        let mut path = join(&self.base, name);
        let mut is_name = true;
        while path.len() > self.base.trim_end_matches('/').len() {
            let there = match self.client.sync(&path).await {
                Ok(()) => self.client.get_data(&path).await,
                Err(error) => Err(error),
            };
            let removed = match there {
                Ok((data, _)) if !is_name && !data.is_empty() => return Ok(()),
                Ok((_, stat)) if stat.num_children == 0 => self.client.delete(&path, Some(stat.version)).await,
                Ok(_) if !is_name => return Ok(()),
                Ok((data, _)) if data.is_empty() => return Ok(()),
                // Others are below it: it stays as a branch.
                Ok((_, stat)) => match self.client.set_data(&path, b"", Some(stat.version)).await {
                    Ok(_) => return Ok(()),
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            };
            match removed {
                Ok(()) | Err(ClientError::NoNode) => {
                    path = parent(&path).to_owned();
                    is_name = false;
                }
                // Somebody wrote, or made a name below it.
                Err(ClientError::BadVersion | ClientError::NotEmpty) => {}
                Err(error) => refused(&path, error)?,
            }
        }
        Ok(())
    }
}
