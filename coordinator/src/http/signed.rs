//! What a coordinator cannot do for anybody: the log takes it from an operator's or admin's own key alone, and no coordinator holds
//! one. Each address says which command does it.

use std::sync::Arc;

use super::asked::Asked;
use super::problem::{Kind, Problem};
use super::route::Answer;
use super::{Api, World};

fn by(command: &'static str) -> Answer {
    Box::pin(async move {
        Err(Problem::new(
            Kind::Signature,
            "the log takes this from an operator's own key, which no coordinator holds",
        )
        .next(format!("where that key is: {command}")))
    })
}

pub(super) fn config(_api: Arc<Api>, _world: Arc<World>, _asked: Asked) -> Answer {
    by("muster config set KEY VALUE")
}

pub(super) fn enable(_api: Arc<Api>, _world: Arc<World>, _asked: Asked) -> Answer {
    by("muster enable")
}

pub(super) fn disable(_api: Arc<Api>, _world: Arc<World>, _asked: Asked) -> Answer {
    by("muster disable --reason TEXT")
}

pub(super) fn prune(_api: Arc<Api>, _world: Arc<World>, _asked: Asked) -> Answer {
    by("muster prune")
}

pub(super) fn hold(_api: Arc<Api>, _world: Arc<World>, _asked: Asked) -> Answer {
    by("muster hold ROUND --reason TEXT")
}

pub(super) fn unhold(_api: Arc<Api>, _world: Arc<World>, _asked: Asked) -> Answer {
    by("muster unhold ROUND")
}
