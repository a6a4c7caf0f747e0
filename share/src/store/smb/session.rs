//! One connection: dialed, signed in, and on the share.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use smb2::client::Connection;
use smb2::pack::{Pack, ReadCursor, Unpack};
use smb2::transport::ConnectOptions;
use smb2::types::status::NtStatus;
use smb2::types::{Command, CreditCharge, TreeId};
use smb2::{Error, Tree};

use super::error::{DFS, SILENCE, classify_dial, ends_session};
use crate::store::StoreError;
use crate::store::address::SmbAddress;
use crate::store::secret::SmbSecret;

/// To be connected, signed in, and on the share.
const DIAL: Duration = Duration::from_secs(12);
/// Of which, to be connected; all addresses of a name together.
const CONNECT: Duration = Duration::from_secs(8);

/// A signed session on the share. Requests of several calls may be under way on it at once.
pub(super) struct Session {
    connection: Connection,
    tree: Arc<Tree>,
    over: AtomicBool,
}

impl Session {
    /// A new one. The password is in the library's memory only until this returns.
    pub(super) async fn dial(address: &SmbAddress, secret: &SmbSecret) -> Result<Self, StoreError> {
        let name = address.to_string();
        if secret.user.is_empty() || secret.user.eq_ignore_ascii_case("guest") {
            // The library takes these for a wish to be a guest, whose session nothing signs.
            return Err(denied(name, "guests are not supported: give the account of a user"));
        }
        let dialed = tokio::time::timeout(DIAL, Self::steps(address, secret)).await;
        let (connection, tree, signs) = match dialed {
            Ok(done) => done.map_err(|error| classify_dial(name.clone(), error))?,
            Err(_) => {
                let source =
                    io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {} s", DIAL.as_secs()));
                return Err(StoreError::Unreachable { path: name, source });
            }
        };
        if !signs {
            return Err(denied(name, "the server does not sign what it sends"));
        }
        if tree.is_dfs {
            return Err(StoreError::InvalidPath { path: name, reason: DFS.to_owned() });
        }
        Ok(Self { connection, tree: Arc::new(tree), over: AtomicBool::new(false) })
    }

    async fn steps(address: &SmbAddress, secret: &SmbSecret) -> Result<(Connection, Tree, bool), Error> {
        let host = format!("{}:{}", address.host, address.port);
        let mut connection = Connection::connect_with(&host, ConnectOptions::with_timeout(CONNECT)).await?;
        // What we store is encrypted already and does not shrink.
        connection.set_compression_requested(false);
        connection.set_response_timeout(Some(SILENCE));
        connection.negotiate().await?;
        let session =
            smb2::Session::setup(&mut connection, &secret.user, secret.password.expose(), &secret.domain)
                .await?;
        let signs = session.should_sign || session.should_encrypt;
        let tree = Tree::connect(&mut connection, &address.share).await?;
        Ok((connection, tree, signs))
    }

    /// A handle of the connection; all of them are the same one.
    pub(super) fn connection(&self) -> Connection {
        self.connection.clone()
    }

    pub(super) fn tree(&self) -> &Arc<Tree> {
        &self.tree
    }

    /// Whether it may serve another call.
    pub(super) fn is_alive(&self) -> bool {
        !self.over.load(Ordering::Relaxed) && !self.connection.is_disconnected()
    }

    /// Takes note of what a call ended with.
    pub(super) fn note(&self, error: &Error) {
        if ends_session(error) {
            self.over.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn wire(&self) -> Wire {
        Wire { connection: self.connection.clone(), tree: self.tree.tree_id }
    }
}

fn denied(path: String, why: &'static str) -> StoreError {
    StoreError::Denied { path, source: io::Error::other(why) }
}

/// Requests that the library has no call for.
#[derive(Clone)]
pub(super) struct Wire {
    connection: Connection,
    tree: TreeId,
}

/// What a request of one credit may carry (MS-SMB2 section 3.2.4.1.5).
const CREDIT: usize = 65536;

/// One request of a read or write: what several of them under way fill a link with, and what a slow one carries in time.
const PIECE: usize = 1 << 20;

impl Wire {
    /// One request of this payload, either way, and its answer.
    pub(super) async fn ask<A: Unpack>(
        &self,
        command: Command,
        body: &dyn Pack,
        payload: usize,
    ) -> Result<A, Error> {
        let charge = CreditCharge(u16::try_from(payload.div_ceil(CREDIT).max(1)).unwrap_or(u16::MAX));
        let answer = self.connection.execute_with_credits(command, body, Some(self.tree), charge).await?;
        if answer.header.status != NtStatus::SUCCESS {
            return Err(Error::Protocol { status: answer.header.status, command });
        }
        A::unpack(&mut ReadCursor::new(&answer.body))
    }

    /// How many bytes one request carries: what the server takes, and half of what its credits allow.
    pub(super) fn piece(&self) -> usize {
        let params = self.connection.params();
        let most = params.map_or(CREDIT, |p| p.max_write_size.min(p.max_read_size) as usize);
        let credits = self.connection.credit_ceiling().map_or(PIECE, |most| usize::from(most / 2) * CREDIT);
        most.min(credits.max(CREDIT)).clamp(1, PIECE)
    }
}
