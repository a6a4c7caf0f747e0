//! What the service manager is told: that a daemon is up, that it still lives, that it ends (sd_notify(3)). Where no manager
//! asks, by `NOTIFY_SOCKET` and `WATCHDOG_USEC`, nothing is said.

use sd_notify::NotifyState;

/// The daemon has all that a person could have got wrong, and begins its work; `status` is for people. An absent share or server
/// is no reason to wait with this: the daemon waits for them, and should not be started again over it.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The daemon ends.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Says that this process lives, twice in each span after which the manager would end it; never ends. It runs where the
/// daemon's own tasks run, so that a runtime that hangs says nothing.
pub async fn keep_alive() {
    let Some(limit) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    let mut ticks = tokio::time::interval(limit / 2);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(words: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(words) {
        tracing::warn!(error = error.to_string(), "the service manager was not told");
    }
}
