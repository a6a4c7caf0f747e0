//! E-mail: plain text over SMTP, with TLS, or without to this machine only.

use std::time::{Duration, UNIX_EPOCH};

use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use muster_protocol::causes::causes;
use muster_protocol::notify::Notification;
use muster_protocol::notify::form::mail;

use super::config::{MailTls, NotifyConfig};
use super::error::{NotifyError, Undelivered};

/// For each step of the conversation.
const STEP: Duration = Duration::from_secs(15);

pub(super) struct Smtp {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
    shown: String,
}

impl Smtp {
    pub(super) fn open(config: &NotifyConfig) -> Result<Self, NotifyError> {
        let wrong = |source: Box<dyn std::error::Error + Send + Sync>| NotifyError::Client {
            channel: config.name.clone(),
            source,
        };
        let host = config.host.clone().unwrap_or_default();
        let wanted = config.tls.unwrap_or_default();
        let port = config.port.unwrap_or(match wanted {
            MailTls::Starttls => 587,
            MailTls::Implicit => 465,
            MailTls::None => 25,
        });
        let tls = match wanted {
            MailTls::None => Tls::None,
            MailTls::Starttls => Tls::Required(parameters(config, &host)?),
            MailTls::Implicit => Tls::Wrapper(parameters(config, &host)?),
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&host)
            .port(port)
            .tls(tls)
            .timeout(Some(STEP))
            .hello_name(hello());
        if let (Some(user), Some(file)) = (&config.user, &config.password_file) {
            let password = super::channel::secret(&config.name, file)?;
            builder = builder.credentials(Credentials::new(user.clone(), password.to_string()));
        }
        let address = |text: &str| text.parse::<Mailbox>().map_err(|error| wrong(error.into()));
        Ok(Self {
            transport: builder.build(),
            from: address(config.from.as_deref().unwrap_or_default())?,
            to: config.to.iter().map(|to| address(to)).collect::<Result<_, _>>()?,
            shown: format!("{host}:{port}"),
        })
    }

    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    pub(super) async fn deliver(&self, notification: &Notification) -> Result<String, Undelivered> {
        let message = self.message(notification).map_err(|error| Undelivered::never(causes(&*error)))?;
        match self.transport.send(message).await {
            Ok(response) => {
                let said: Vec<&str> = response.message().collect();
                Ok(format!("{} answered {} {}", self.shown, response.code(), said.join(" ")))
            }
            Err(error) => {
                let why: String = format!("{}: {}", self.shown, causes(&error))
                    .chars()
                    .filter(|c| !c.is_control())
                    .collect();
                Err(if error.is_permanent() { Undelivered::never(why) } else { Undelivered::again(why) })
            }
        }
    }

    fn message(
        &self,
        notification: &Notification,
    ) -> Result<Message, Box<dyn std::error::Error + Send + Sync>> {
        let mail = mail(notification);
        let at = UNIX_EPOCH + Duration::from_millis(u64::try_from(notification.at.0).unwrap_or(0));
        // The domain names the fleet and no machine; what is before it is the same over all attempts.
        let id = format!("<{}@{}.muster.invalid>", notification.id, notification.fleet);
        // No answer of an absent person's mailbox to it (RFC 3834).
        let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
        let mut builder = Message::builder()
            .from(self.from.clone())
            .subject(mail.subject)
            .date(at)
            .message_id(Some(id))
            .raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()))
            .header(ContentType::TEXT_PLAIN);
        for to in &self.to {
            builder = builder.to(to.clone());
        }
        Ok(builder.body(mail.text)?)
    }
}

fn parameters(config: &NotifyConfig, host: &str) -> Result<TlsParameters, NotifyError> {
    let client = |source: Box<dyn std::error::Error + Send + Sync>| NotifyError::Client {
        channel: config.name.clone(),
        source,
    };
    muster_telemetry::install_ring().map_err(|error| client(error.into()))?;
    let mut builder = TlsParameters::builder(host.to_owned());
    if let Some(file) = &config.ca_file {
        let wrong = |source: Box<dyn std::error::Error + Send + Sync>| NotifyError::Certificates {
            channel: config.name.clone(),
            file: file.clone(),
            source,
        };
        let pem = std::fs::read(file).map_err(|error| wrong(error.into()))?;
        let certificate = Certificate::from_pem(&pem).map_err(|error| wrong(error.into()))?;
        builder = builder.add_root_certificate(certificate);
    }
    builder.build().map_err(|error| client(error.into()))
}

/// How we greet the server: the machine's name, if it is one that may stand there.
fn hello() -> ClientId {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy().into_owned();
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    if !name.is_empty() && name.chars().all(fits) { ClientId::Domain(name) } else { ClientId::default() }
}
