//! Machines of their own network on this one: network namespaces behind a bridge, each with an address from the range for
//! documentation (RFC 5737). Needs root and iproute2.

use std::path::Path;
use std::process::Command;

/// A network of so many machines around a hub. It is taken down with the handle.
#[derive(Debug)]
pub struct Network {
    name: String,
    machines: usize,
}

fn ip(words: &[&str]) {
    let output = Command::new("ip").args(words).output().expect("ip runs");
    assert!(output.status.success(), "ip {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
}

impl Network {
    /// Makes the network; the hub has a bridge, every machine a cable to it.
    ///
    /// # Panics
    /// When it may not: without root, or without iproute2.
    #[must_use]
    pub fn of(machines: usize) -> Self {
        // Short: names of links have at most 15 bytes.
        let network = Self { name: format!("m{}", std::process::id()), machines };
        let hub = network.hub();
        ip(&["netns", "add", &hub]);
        ip(&["-n", &hub, "link", "set", "lo", "up"]);
        ip(&["-n", &hub, "link", "add", "bridge", "type", "bridge"]);
        ip(&["-n", &hub, "address", "add", &format!("{}/24", network.hub_address()), "dev", "bridge"]);
        ip(&["-n", &hub, "link", "set", "bridge", "up"]);
        for number in 0..machines {
            let (machine, cable) = (network.machine(number), network.cable(number));
            ip(&["netns", "add", &machine]);
            ip(&["-n", &machine, "link", "set", "lo", "up"]);
            ip(&[
                "-n", &hub, "link", "add", &cable, "type", "veth", "peer", "name", "eth0", "netns", &machine,
            ]);
            ip(&["-n", &hub, "link", "set", &cable, "master", "bridge", "up"]);
            let address = format!("192.0.2.{}/24", 10 + number);
            ip(&["-n", &machine, "address", "add", &address, "dev", "eth0"]);
            ip(&["-n", &machine, "link", "set", "eth0", "up"]);
        }
        network
    }

    fn hub(&self) -> String {
        format!("{}hub", self.name)
    }

    fn machine(&self, number: usize) -> String {
        format!("{}n{number}", self.name)
    }

    fn cable(&self, number: usize) -> String {
        format!("cable{number}")
    }

    /// The address of the hub.
    #[must_use]
    pub fn hub_address(&self) -> &'static str {
        "192.0.2.1"
    }

    /// A program that runs in the hub.
    #[must_use]
    pub fn in_hub(&self, program: &Path) -> Command {
        within(&self.hub(), program)
    }

    /// A program that runs on a machine.
    #[must_use]
    pub fn on(&self, number: usize, program: &Path) -> Command {
        within(&self.machine(number), program)
    }

    /// Pulls the cable of a machine, or puts it back: nobody at either end is told.
    ///
    /// # Panics
    /// When it cannot.
    pub fn plug(&self, number: usize, is_in: bool) {
        // Not the state of the link, which the machine would see, but whether the bridge carries what comes: 3 is forwarding, 0
        // disabled (bridge(8)).
        let state = if is_in { "3" } else { "0" };
        let output = Command::new("ip")
            .args([
                "netns",
                "exec",
                &self.hub(),
                "bridge",
                "link",
                "set",
                "dev",
                &self.cable(number),
                "state",
                state,
            ])
            .output()
            .expect("bridge runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

fn within(namespace: &str, program: &Path) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).arg(program);
    command
}

impl Drop for Network {
    fn drop(&mut self) {
        let names = (0..self.machines).map(|number| self.machine(number)).chain([self.hub()]);
        for name in names {
            // What runs in it was killed before; what is left of it goes with the last process.
            drop(Command::new("ip").args(["netns", "delete", &name]).output());
        }
    }
}
