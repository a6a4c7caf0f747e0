//! Mails, through a real server: with STARTTLS and with TLS from the first byte, with a user, refused and taken.

use std::path::Path;

use muster_test_servers::{MailMode, MailServer};

use super::{QUICK, begin, channel, half, keeps_secrets, secret_file, wait_until};

fn keys(server: &MailServer, tls: &str, password: &Path) -> String {
    let (user, _) = MailServer::login();
    format!(
        "kind = \"smtp\"\nhost = \"localhost\"\nport = {}\ntls = \"{tls}\"\nuser = \"{user}\"\npassword_file = \"{}\"\n\
         ca_file = \"{}\"\nfrom = \"Muster <muster@example.org>\"\nto = [\"ops@example.org\", \"Anna <anna@example.org>\"]\n\
         min_severity = \"error\"\n{QUICK}",
        server.port(),
        password.display(),
        server.ca().display()
    )
}

fn mail<'a>(mails: &'a [String], subject: &str) -> Option<&'a String> {
    let wanted = format!("\r\nSubject: {subject}");
    mails.iter().find(|mail| mail.contains(&wanted))
}

#[test]
#[ignore = "needs the servers of ./x test --servers"]
fn servers_mails_arrive_once_over_tls_with_a_user() {
    let (mut fleet, _data) = half();
    let (first, second) = (MailServer::start(MailMode::Starttls), MailServer::start(MailMode::Implicit));
    let (_, password) = MailServer::login();
    let right = secret_file(&fleet, "mail.password", password);
    let wrong = secret_file(&fleet, "wrong.password", "a wrong hunter2");
    channel(&fleet, "first", &keys(&first, "starttls", &right));
    channel(&fleet, "second", &keys(&second, "implicit", &right));
    channel(&fleet, "wrong", &keys(&first, "starttls", &wrong));
    let untrusted = keys(&first, "starttls", &right);
    let untrusted: Vec<_> = untrusted.lines().filter(|line| !line.starts_with("ca_file")).collect();
    channel(&fleet, "untrusted", &untrusted.join("\n"));
    begin(&mut fleet);

    let said = fleet.run(&["notify", "test", "--json"]).with_code(1).json();
    let of = |name: &str| {
        let channels = said["channels"].as_array().expect("channels");
        channels.iter().find(|channel| channel["channel"] == name).expect("it was tested").clone()
    };
    assert_eq!(
        (&of("first")["delivered"], &of("second")["delivered"]),
        (&true.into(), &true.into()),
        "{said}"
    );
    let refused = of("wrong");
    let answer = refused["said"].as_str().expect("an answer");
    assert!(refused["delivered"] == false && answer.contains("535"), "{refused}");
    assert_eq!(of("untrusted")["delivered"], false, "a certificate that nobody vouches for: {said}");
    assert!(mail(&first.mails(), "[muster test] test of channel first").is_some(), "{:?}", first.mails());
    assert!(mail(&second.mails(), "[muster test] test of channel second").is_some());

    // What the server does not take now, it takes later, and once.
    second.refuse(Some("451 come again"));
    let _ = fleet.run(&["start", "--wait"]).with_code(3);
    wait_until("the first is told", || mail(&first.mails(), "[muster test] ROUND-01 error: fleet").is_some());
    second.refuse(None);
    wait_until("the second is told", || {
        mail(&second.mails(), "[muster test] ROUND-01 error: fleet").is_some()
    });
    let mails = first.mails();
    let mail = mail(&mails, "[muster test] ROUND-01").expect("it is there");
    assert!(mail.starts_with("X-Recipients: ops@example.org, anna@example.org\r\n"), "{mail}");
    for part in [
        "\r\nFrom: Muster <muster@example.org>\r\n",
        "\r\nTo: ops@example.org, Anna <anna@example.org>\r\n",
        "\r\nMessage-ID: <",
        "\r\nAuto-Submitted: auto-generated\r\n",
        "\r\nContent-Type: text/plain; charset=utf-8\r\n",
        "muster alerts show ",
    ] {
        assert!(mail.contains(part), "{part}: {mail}");
    }
    let rounds = |server: &MailServer| {
        server.mails().iter().filter(|mail| mail.contains("\r\nSubject: [muster test] ROUND-01")).count()
    };
    assert_eq!((rounds(&first), rounds(&second)), (1, 1));
    keeps_secrets(&fleet, &[password, "a wrong hunter2"]);
}
