//! Echoes: messages to ourselves that show that the connection carries in both directions.
//!
//! The client pings a connection that is idle, and any message that comes in makes it look busy (async-nats 0.51). A
//! coordinator hears its agents all the time; that nothing of its own goes out any more, only an echo tells.

use super::Wire;
use bytes::Bytes;
use std::sync::{Arc, Weak};
use tokio::{task::JoinHandle, time::sleep};

/// The task that asks; ends with its handle.
pub(crate) struct Echo(JoinHandle<()>);

impl Drop for Echo {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Echo {
    /// Asks for echoes over this connection, and makes it anew when one does not come.
    pub(crate) fn begin(wire: &Wire) -> Self {
        Self(tokio::spawn(run(Parts::of(wire))))
    }
}

/// What it needs, held weakly: the connection ends with the last of its users.
struct Parts {
    answers: Weak<super::Answers>,
    connection: Weak<super::Connection>,
    limit: std::time::Duration,
}

impl Parts {
    fn of(wire: &Wire) -> Self {
        Self {
            answers: Arc::downgrade(&wire.answers),
            connection: Arc::downgrade(&wire.connection),
            limit: wire.limits.echo,
        }
    }
}

async fn run(parts: Parts) {
    loop {
        sleep(parts.limit).await;
        let (Some(answers), Some(connection)) = (parts.answers.upgrade(), parts.connection.upgrade()) else {
            return;
        };
        if connection.is_closed() {
            return;
        }
        let before = *connection.link().borrow();
        if !before.connected {
            continue;
        }
        let client = connection.client();
        let (inbox, echo) = answers.expect();
        let sent = client.publish(inbox.subject().to_owned(), Bytes::new());
        let round = async { sent.await.is_ok() && echo.await.is_ok() };
        if tokio::time::timeout(parts.limit, round).await == Ok(true) {
            continue;
        }
        // One that was made anew in between lost the echo, and needs nothing.
        if *connection.link().borrow() == before {
            tracing::warn!("BUS-01: the connection to NATS carries nothing any more; making it anew");
            // It fails only when the connection is being made anew already.
            client.force_reconnect().await.ok();
        }
    }
}
