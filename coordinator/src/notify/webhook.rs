//! A webhook: the message as the body of a POST, signed where there is a secret.

use std::time::Duration;

use muster_protocol::notify::form::{alertmanager, json, slack};
use muster_protocol::notify::{Notification, SIGNATURE_HEADER, signature};
use zeroize::Zeroizing;

use super::config::{Form, NotifyConfig};
use super::error::{NotifyError, Undelivered};
use super::http::Http;
use crate::scribe::unix_now;

/// The header with the id that all attempts of one message have in common.
const DELIVERY_HEADER: &str = "Muster-Delivery";
/// Alerts of which a message in our own form tells one by one.
const LISTED: usize = 100;

pub(super) struct Webhook {
    http: Http,
    form: Form,
    secret: Option<Zeroizing<String>>,
    /// How long an open alert stays one at an Alertmanager that hears no more of it.
    lasts: Duration,
}

impl Webhook {
    pub(super) fn open(config: &NotifyConfig, repeat: Duration) -> Result<Self, NotifyError> {
        let secret = config
            .secret_file
            .as_deref()
            .map(|file| super::channel::secret(&config.name, file))
            .transpose()?;
        // One repeat may be late, or not arrive.
        let lasts =
            if repeat.is_zero() { Duration::from_secs(365 * 86_400) } else { repeat.saturating_mul(3) };
        Ok(Self { http: Http::open(config)?, form: config.form.unwrap_or_default(), secret, lasts })
    }

    pub(super) fn shown(&self) -> &str {
        self.http.shown()
    }

    pub(super) async fn deliver(&self, notification: &Notification) -> Result<String, Undelivered> {
        let body = match self.form {
            Form::Json => json(notification, LISTED),
            Form::Alertmanager => alertmanager(notification, self.lasts),
            Form::Slack => slack(notification),
        };
        let mut request = self
            .http
            .post()
            .header("Content-Type", "application/json")
            .header(DELIVERY_HEADER, &notification.id);
        if let Some(secret) = &self.secret {
            let signed = signature(secret.as_bytes(), unix_now().0 / 1000, &body);
            request = request.header(SIGNATURE_HEADER, signed);
        }
        self.http.send(request.body(body)).await
    }
}
