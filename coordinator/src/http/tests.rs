//! The API over a real socket, without share and bus: what must hold before anything else does.
