//! `muster init`: makes a fleet. Everything is checked before anything is written; what was written is taken back if a
//! later step fails, so that the same command can be given again.
//!
//! ```text
//! arguments ──Plan::check──▶ Plan ──keys──▶ files of DIR, KIT, ROOT ──▶ log on the share (last)
//! ```

mod found;
pub(crate) mod keys;
pub(crate) mod plan;
pub(crate) mod undo;
pub(crate) mod write;

use serde::Serialize;

use crate::args::Init;
use crate::bus_users::{self, Place};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::screen;
use keys::Keys;
use plan::Plan;
use undo::Undo;

#[derive(Debug, Serialize)]
struct View {
    schema: &'static str,
    fleet: String,
    fleet_id: String,
    dir: String,
    share: String,
    kit: String,
    root: String,
    nats: String,
    recipients: Vec<String>,
    services: Vec<String>,
    /// Folders to be copied to the machines of their services, with `--listen`.
    machines: Vec<String>,
    warnings: Vec<String>,
}

/// Makes it.
pub(crate) async fn run(args: Init) -> Outcome {
    let json = args.json;
    let plan = Plan::check(args).await?;
    let keys = Keys::generate(&plan);
    make(&plan, &keys).await?;
    report(&plan, &keys, json);
    Ok(Exit::Done)
}

async fn make(plan: &Plan, keys: &Keys) -> Result<(), Failure> {
    let mut undo = Undo::new();
    write::folders(plan, keys, &mut undo)?;
    found::found(plan, keys, &mut undo).await?;
    undo.keep();
    Ok(())
}

fn report(plan: &Plan, keys: &Keys, json: bool) {
    let fleet = keys.fleet(plan);
    let services: Vec<_> = plan.services.iter().map(|service| service.name.to_string()).collect();
    let recipients: Vec<_> = keys.recipients(plan).iter().map(ToString::to_string).collect();
    let machines: Vec<_> = match plan.place {
        Place::Here => Vec::new(),
        Place::Apart => {
            let folder = |name: &String| plan.dir.join(bus_users::machine_path(name)).display().to_string();
            services.iter().map(folder).collect()
        }
    };
    let (dir, kit, root) = (plan.dir.display(), plan.kit.display(), plan.root.display());
    if json {
        screen::json(&View {
            schema: "muster.init/1",
            fleet: plan.fleet.to_string(),
            fleet_id: fleet.id.to_string(),
            dir: dir.to_string(),
            share: plan.share.url.clone(),
            kit: kit.to_string(),
            root: root.to_string(),
            nats: plan.nats_url(),
            recipients,
            services,
            machines,
            warnings: plan.warnings.clone(),
        });
        return;
    }
    screen::line(format!("fleet {} · {} · share {}", plan.fleet, fleet.id.short(), plan.share.url));
    screen::line(format!("services  {}", services.join(", ")));
    screen::line(format!(
        "folder    {dir}: nats-server.conf, coordinator.toml, agents/, operator.toml, keys/"
    ));
    screen::line(format!(
        "bus       {}: TLS, an nkey for each client; keys/trigger.nk for whoever starts rounds by a message",
        plan.nats_url()
    ));
    screen::line(format!(
        "kit       {kit}: recovery.key (private), root.pub, emergency.py, kit.html (print it), README.md"
    ));
    screen::line(format!("root      {root}: root.key (private)"));
    screen::line(format!("opens with {}", recipients.join(", ")));
    for warning in &plan.warnings {
        screen::line(format!("warning: {warning}"));
    }
    screen::line("warning: KEY-02: the private recovery and root keys still lie on this machine");
    screen::line(format!("  → move {kit} and {root} to media that you can take away, apart from each other"));
    screen::line("next:");
    if let Some(machine) = machines.first() {
        screen::line(format!("  → muster up {dir}          nats-server and coordinator in the foreground"));
        screen::line(format!(
            "  → copy {machine} to the machine of {}, so that only its owner can read it, and so on; there:",
            services.first().map_or("its service", String::as_str)
        ));
        screen::line("    muster-agent --config agent.toml        deploy/systemd has units for both");
        screen::line("  → delete the copies in machines/: each holds an agent's keys");
        return;
    }
    screen::line(format!("  → muster once {dir}        one round, without NATS"));
    screen::line(format!(
        "  → muster up {dir}          nats-server, coordinator and agents in the foreground"
    ));
}

#[cfg(test)]
mod tests;
