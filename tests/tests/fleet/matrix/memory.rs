//! Little memory: an agent works within a control group's limit, and one that the kernel ends for want of
//! memory costs its attempt, not the round. FAULTS invariants 2, 3, 15, 16.

use std::fs;
use std::path::{Path, PathBuf};

use muster_tests::fleet::text;
use muster_tests::process::{skip, wait_for};
use muster_tests::tree;

use super::scene::{FILES, Scene};

/// A control group with a limit of memory, gone when this is.
struct Group {
    folder: PathBuf,
    limit: &'static str,
}

impl Group {
    /// One with this limit in bytes; `None` where this process may make none.
    fn new(name: &str, bytes: u64) -> Option<Self> {
        let name = format!("muster-test-{name}-{}", std::process::id());
        let places = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        let made = places.into_iter().find_map(|(root, limit)| {
            let group = Self { folder: Path::new(root).join(&name), limit };
            fs::create_dir(&group.folder).ok()?;
            group.allow(bytes).then_some(group)
        });
        if made.is_none() {
            skip("no control group for memory can be made here");
        }
        made
    }

    fn allow(&self, bytes: u64) -> bool {
        // Without it, what does not fit would be swapped.
        let _ = fs::write(self.folder.join("memory.swap.max"), "0");
        fs::write(self.folder.join(self.limit), bytes.to_string()).is_ok()
    }

    /// The words before a program that put it into the group.
    fn wrapper(&self) -> Vec<String> {
        let script = format!("echo $$ > '{}' && exec \"$@\"", text(&self.folder.join("cgroup.procs")));
        vec!["sh".to_owned(), "-c".into(), script, "sh".into()]
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Whoever was in it has ended, or this fails and the folder stays empty.
        let _ = fs::remove_dir(&self.folder);
    }
}

/// More than all of what an agent may have.
const DATA: usize = 160 << 20;
const ENOUGH: u64 = 144 << 20;
const TOO_LITTLE: u64 = 20 << 20;

#[test]
fn an_agent_works_within_its_limit_and_one_that_is_ended_for_want_of_memory_costs_an_attempt() {
    let Some(group) = Group::new("agent", ENOUGH) else { return };
    let mut scene = Scene::held();
    fs::write(scene.tree().join("much"), tree::noise(9, DATA)).expect("file");
    scene.fleet.start_nats();
    scene.fleet.start_coordinator();
    scene.fleet.start_agent_under(&group.wrapper(), FILES);
    scene.round();
    scene.is_sound();

    scene.fleet.kill_agent(FILES);
    assert!(group.allow(TOO_LITTLE));
    scene.fleet.start_agent_under(&group.wrapper(), FILES);
    fs::write(scene.tree().join("more"), tree::noise(10, DATA / 4)).expect("file");
    let _starter = scene.begin();
    wait_for("the kernel has ended the agent", || (!scene.fleet.agent(FILES).is_running()).then_some(()));
    wait_for("the service is released", || (!scene.is_held()).then_some(()));
    assert_eq!(muster_tests::audit::commits(&scene.fleet), 1, "nothing of it counts");
    assert!(group.allow(ENOUGH));
    scene.fleet.kill_agent(FILES);
    scene.fleet.start_agent_under(&group.wrapper(), FILES);
    scene.finish();
    scene.is_sound();
    drop(scene);
}
