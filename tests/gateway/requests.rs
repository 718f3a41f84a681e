//! What may be asked on a channel, by a raw russh client: every request is answered, and refused
//! by itself, not only beside another that would be refused anyway.

use std::sync::Arc;
use std::time::Duration;

use russh::keys::{HashAlg, PrivateKeyWithHashAlg, PublicKeyOrCertificate, load_secret_key};
use russh::{Channel, ChannelMsg, Preferred, client, kex};
use tokio::time::timeout;

use crate::harness::{Failed, Gateway, Verdict};
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    (
        "agent, x11, pty, env, shell and other subsystems each get channel failure, and sftp still starts",
        Needs::Nothing,
        refused_one_by_one,
    ),
    (
        "ML-KEM-768 with X25519 is agreed with a client that wants nothing else",
        Needs::Nothing,
        ml_kem,
    ),
    (
        "forwardings of ports and sockets are refused and the connection goes on",
        Needs::Nothing,
        no_forwarding,
    ),
];

/// A hang would block the suite; an answer comes at once.
const ANSWER: Duration = Duration::from_mins(1);

type Fault = Box<dyn std::error::Error>;

struct Trusts(String);

impl client::Handler for Trusts {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        key: &PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = key else {
            return Ok(false);
        };
        Ok(key.fingerprint(HashAlg::Sha256).to_string() == self.0)
    }
}

fn refused_one_by_one() -> Verdict {
    let gateway = Gateway::start()?;
    with_session(&gateway, async |session| {
        let mut channel = session.channel_open_session().await?;
        channel.agent_forward(true).await?;
        refused(&mut channel, "auth-agent-req@openssh.com").await?;
        channel
            .request_x11(true, false, "MIT-MAGIC-COOKIE-1", "00", 0)
            .await?;
        refused(&mut channel, "x11-req").await?;
        channel
            .request_pty(true, "xterm", 80, 24, 0, 0, &[])
            .await?;
        refused(&mut channel, "pty-req").await?;
        channel.set_env(true, "LD_PRELOAD", "/tmp/x.so").await?;
        refused(&mut channel, "env").await?;
        channel.request_shell(true).await?;
        refused(&mut channel, "shell").await?;
        channel.request_subsystem(true, "netconf").await?;
        refused(&mut channel, "subsystem netconf").await?;
        channel.request_subsystem(true, "sftp").await?;
        let started = answer(&mut channel).await?;
        assert!(matches!(started, ChannelMsg::Success), "{started:?}");
        Ok(())
    })
}

fn ml_kem() -> Verdict {
    let gateway = Gateway::start()?;
    let preferred = Preferred {
        kex: vec![kex::MLKEM768X25519_SHA256].into(),
        ..Preferred::default()
    };
    let config = client::Config {
        preferred,
        ..client::Config::default()
    };
    with_session_by(&gateway, config, async |session| {
        let mut channel = session.channel_open_session().await?;
        channel.request_subsystem(true, "sftp").await?;
        let started = answer(&mut channel).await?;
        assert!(matches!(started, ChannelMsg::Success), "{started:?}");
        Ok(())
    })
}

fn no_forwarding() -> Verdict {
    let gateway = Gateway::start()?;
    with_session(&gateway, async |session| {
        let direct = session.channel_open_direct_tcpip("127.0.0.1", 22, "127.0.0.1", 1);
        assert!(direct.await.is_err(), "direct-tcpip");
        let socket = session.channel_open_direct_streamlocal("/run/x.sock");
        assert!(socket.await.is_err(), "direct-streamlocal");
        let remote = session.tcpip_forward("127.0.0.1", 0);
        assert!(remote.await.is_err(), "tcpip-forward");
        let remote = session.streamlocal_forward("/tmp/x.sock");
        assert!(remote.await.is_err(), "streamlocal-forward");
        let mut channel = session.channel_open_session().await?;
        channel.request_subsystem(true, "sftp").await?;
        let started = answer(&mut channel).await?;
        assert!(matches!(started, ChannelMsg::Success), "{started:?}");
        Ok(())
    })
}

async fn refused(channel: &mut Channel<client::Msg>, what: &str) -> Result<(), Fault> {
    let answer = answer(channel).await?;
    if matches!(answer, ChannelMsg::Failure) {
        return Ok(());
    }
    Err(format!("{what}: CHANNEL_FAILURE expected, not {answer:?}").into())
}

/// The next answer to a request; what is said on the channel meanwhile is passed over.
async fn answer(channel: &mut Channel<client::Msg>) -> Result<ChannelMsg, Fault> {
    loop {
        match timeout(ANSWER, channel.wait()).await? {
            Some(ChannelMsg::WindowAdjusted { .. } | ChannelMsg::ExtendedData { .. }) => {}
            Some(message) => return Ok(message),
            None => return Err("the channel was closed without an answer".into()),
        }
    }
}

/// A connection as acme, without any channel.
fn with_session<F>(gateway: &Gateway, work: F) -> Verdict
where
    F: AsyncFnOnce(client::Handle<Trusts>) -> Result<(), Fault>,
{
    with_session_by(gateway, client::Config::default(), work)
}

fn with_session_by<F>(gateway: &Gateway, config: client::Config, work: F) -> Verdict
where
    F: AsyncFnOnce(client::Handle<Trusts>) -> Result<(), Fault>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let key = Arc::new(load_secret_key(gateway.acme_key(), None)?);
    let (address, trusts) = (("127.0.0.1", gateway.port()), Trusts(gateway.host_key()));
    runtime
        .block_on(Box::pin(async move {
            let mut session = client::connect(Arc::new(config), address, trusts).await?;
            let signer = PrivateKeyWithHashAlg::new(key, None);
            let login = session.authenticate_publickey("acme", signer).await?;
            if !login.success() {
                return Err("the login was refused".into());
            }
            work(session).await
        }))
        .map_err(|fault: Fault| Failed::from(fault.to_string()))
}
