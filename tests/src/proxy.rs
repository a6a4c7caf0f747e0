//! A TCP proxy between a client and its server that can stall either direction or cut everything: the network's faults,
//! without touching the network.
//!
//! What is on its way while a direction is stalled is held, and delivered when it passes again, as TCP would.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What the proxy does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Everything passes.
    Pass,
    /// Nothing of this direction passes; both ends think that they are connected.
    Stall {
        /// From the client to the server.
        to_server: bool,
        /// From the server to the client.
        to_client: bool,
    },
    /// Connections are closed at once, the new ones as well.
    Cut,
    /// The proxy is gone.
    Gone,
}

impl Mode {
    /// Both directions stalled: a half-open connection as a lost host leaves one behind.
    pub const SILENT: Self = Self::Stall { to_server: true, to_client: true };
}

/// A proxy on a port of its own; gone with its handle.
#[derive(Debug)]
pub struct Proxy {
    /// Where clients connect, on the loopback interface.
    pub port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    mode: Mode,
    sockets: Vec<TcpStream>,
}

#[derive(Debug, Clone, Copy)]
enum Direction {
    ToServer,
    ToClient,
}

impl Proxy {
    /// A proxy that passes everything on to this port of the loopback interface.
    ///
    /// # Panics
    /// When there is no port.
    #[must_use]
    pub fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let state = State { mode: Mode::Pass, sockets: Vec::new() };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let own = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if own.state().mode == Mode::Gone {
                    return;
                }
                own.connect(client, server);
            }
        });
        Self { port, shared }
    }

    /// Does this from now on.
    pub fn set(&self, mode: Mode) {
        self.shared.set(mode);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.set(Mode::Gone);
        // So that the listener looks once more.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, mode: Mode) {
        let mut state = self.state();
        state.mode = mode;
        if matches!(mode, Mode::Cut | Mode::Gone) {
            for socket in state.sockets.drain(..) {
                // One that is closed already is none the worse.
                socket.shutdown(Shutdown::Both).ok();
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    fn connect(self: &Arc<Self>, client: TcpStream, server: u16) {
        let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { return };
        let halves = || Some((client.try_clone().ok()?, server.try_clone().ok()?));
        let (Some((from_client, to_server)), Some((to_client, from_server))) = (halves(), halves()) else {
            return;
        };
        let mut state = self.state();
        if matches!(state.mode, Mode::Cut | Mode::Gone) {
            return;
        }
        state.sockets.extend([client, server]);
        drop(state);
        for (from, to, direction) in
            [(from_client, to_server, Direction::ToServer), (from_server, to_client, Direction::ToClient)]
        {
            let shared = self.clone();
            std::thread::spawn(move || shared.carry(from, to, direction));
        }
    }

    fn carry(&self, mut from: TcpStream, mut to: TcpStream, direction: Direction) {
        let mut buffer = [0; 16 * 1024];
        loop {
            let read = from.read(&mut buffer).unwrap_or(0);
            if !self.may_pass(direction) || read == 0 || to.write_all(&buffer[..read]).is_err() {
                from.shutdown(Shutdown::Both).ok();
                to.shutdown(Shutdown::Both).ok();
                return;
            }
        }
    }

    /// Waits while the direction is stalled; false once everything is cut.
    fn may_pass(&self, direction: Direction) -> bool {
        let mut state = self.state();
        loop {
            let stalled = match (state.mode, direction) {
                (Mode::Pass, _) => false,
                (Mode::Stall { to_server, .. }, Direction::ToServer) => to_server,
                (Mode::Stall { to_client, .. }, Direction::ToClient) => to_client,
                (Mode::Cut | Mode::Gone, _) => return false,
            };
            if !stalled {
                return true;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Mode, Proxy};
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    #[test]
    fn what_is_stalled_is_held_and_what_is_cut_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let proxy = Proxy::to(listener.local_addr().expect("an address").port());
        let mut client = TcpStream::connect(("127.0.0.1", proxy.port)).expect("connects");
        let (mut server, _) = listener.accept().expect("arrives");
        let mut byte = [0];
        client.write_all(b"a").expect("sent");
        server.read_exact(&mut byte).expect("passes");
        proxy.set(Mode::Stall { to_server: true, to_client: false });
        client.write_all(b"b").expect("sent");
        server.write_all(b"c").expect("sent");
        client.read_exact(&mut byte).expect("the other direction passes");
        server.set_read_timeout(Some(Duration::from_millis(100))).expect("set");
        assert!(server.read_exact(&mut byte).is_err(), "nothing comes while it is stalled");
        proxy.set(Mode::Pass);
        server.set_read_timeout(None).expect("set");
        server.read_exact(&mut byte).expect("it comes late");
        assert_eq!(&byte, b"b");
        proxy.set(Mode::Cut);
        assert_eq!(client.read(&mut byte).unwrap_or(0), 0);
        assert_eq!(server.read(&mut byte).unwrap_or(0), 0);
    }
}
