//! Metric series, with the names that dashboards and alerts use. Labels are few and bounded by
//! files and catalogues: never a file name, a submission, a key or an address.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::terms::clock::Timestamp;
use crate::terms::drift::DriftKind;
use crate::terms::ids::{FeedId, PartnerId};
use crate::terms::verdict::Verdict;

/// How a file came in, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// `link`
    Link,
    /// `scp`
    Scp,
    /// `sftp`
    Sftp,
}

/// What became of a connection, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionResult {
    /// `handshake_failed`
    HandshakeFailed,
    /// `ok`
    Ok,
    /// `refused_early`: dropped at random while places were scarce.
    RefusedEarly,
    /// `refused_limit`
    RefusedLimit,
    /// `refused_penalty`
    RefusedPenalty,
}

/// A bound of sessions that somebody ran into, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// `auth_tries`: a connection has used up its attempts to log in.
    AuthTries,
    /// `bytes_rate`: a session was read no faster than it may send, once in ten seconds.
    BytesRate,
    /// `channels` of one connection.
    Channels,
    /// `files_rate`: files opened per second in one session.
    FilesRate,
    /// `handles` or uploads open on one connection.
    Handles,
    /// `handshake_bytes` before login.
    HandshakeBytes,
    /// `idle`: nothing was asked for a while.
    Idle,
    /// `login_grace`
    LoginGrace,
    /// `output`: replies nobody takes.
    Output,
    /// `packet`: an SFTP packet too long or too short.
    Packet,
    /// `requests` waiting on one channel.
    Requests,
    /// `sessions` of one partner.
    Sessions,
    /// `spool`: the quota of a partner, or of all.
    Spool,
}

/// How somebody tried to log in, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// `certificate`
    Certificate,
    /// `none`
    None,
    /// `password`
    Password,
    /// `publickey`
    PublicKey,
}

/// What became of a login attempt, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthResult {
    /// `denied`
    Denied,
    /// `ok`
    Ok,
}

/// What a session is for, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionKind {
    /// `scp`
    Scp,
    /// `sftp`
    Sftp,
    /// `tunnel`
    Tunnel,
}

/// All series of the gateway. Cheap to clone; no globals.
#[derive(Clone, Debug)]
pub struct Metrics {
    series: Arc<Series>,
}

/// Counts one open session until it is dropped.
#[derive(Debug)]
pub struct SessionCount(Gauge);

#[derive(Debug)]
struct Series {
    registry: Registry,
    submissions: Family<ByVerdict, Counter>,
    received_bytes: Family<ByPartnerChannel, Counter>,
    rows: Family<ByRowResult, Counter>,
    drift: Family<ByDrift, Counter>,
    verdict_wait: Family<ByChannel, Histogram, fn() -> Histogram>,
    connections: Family<ByResult, Counter>,
    auth_attempts: Family<ByMethodResult, Counter>,
    limits_reached: Family<ByLimit, Counter>,
    sessions: Family<ByKind, Gauge>,
    reload_successful: Gauge,
    reload_success_timestamp: Gauge,
    in_state: Family<ByState, Gauge>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByVerdict {
    partner: String,
    feed: String,
    verdict: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByPartnerChannel {
    partner: String,
    channel: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByRowResult {
    partner: String,
    feed: String,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByDrift {
    partner: String,
    feed: String,
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByChannel {
    channel: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByResult {
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByMethodResult {
    method: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByLimit {
    limit: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByKind {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByState {
    state: &'static str,
}

// === impl labels ===

impl Channel {
    fn as_str(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Scp => "scp",
            Self::Sftp => "sftp",
        }
    }
}

impl ConnectionResult {
    const ALL: [Self; 5] = [
        Self::HandshakeFailed,
        Self::Ok,
        Self::RefusedEarly,
        Self::RefusedLimit,
        Self::RefusedPenalty,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::HandshakeFailed => "handshake_failed",
            Self::Ok => "ok",
            Self::RefusedEarly => "refused_early",
            Self::RefusedLimit => "refused_limit",
            Self::RefusedPenalty => "refused_penalty",
        }
    }
}

impl Limit {
    const ALL: [Self; 13] = [
        Self::AuthTries,
        Self::BytesRate,
        Self::Channels,
        Self::FilesRate,
        Self::Handles,
        Self::HandshakeBytes,
        Self::Idle,
        Self::LoginGrace,
        Self::Output,
        Self::Packet,
        Self::Requests,
        Self::Sessions,
        Self::Spool,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::AuthTries => "auth_tries",
            Self::BytesRate => "bytes_rate",
            Self::Channels => "channels",
            Self::FilesRate => "files_rate",
            Self::Handles => "handles",
            Self::HandshakeBytes => "handshake_bytes",
            Self::Idle => "idle",
            Self::LoginGrace => "login_grace",
            Self::Output => "output",
            Self::Packet => "packet",
            Self::Requests => "requests",
            Self::Sessions => "sessions",
            Self::Spool => "spool",
        }
    }
}

impl AuthMethod {
    fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::None => "none",
            Self::Password => "password",
            Self::PublicKey => "publickey",
        }
    }
}

impl AuthResult {
    fn as_str(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Ok => "ok",
        }
    }
}

impl SessionKind {
    const ALL: [Self; 3] = [Self::Scp, Self::Sftp, Self::Tunnel];

    fn as_str(self) -> &'static str {
        match self {
            Self::Scp => "scp",
            Self::Sftp => "sftp",
            Self::Tunnel => "tunnel",
        }
    }
}

// === impl Metrics ===

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All series at zero. Series whose labels are a fixed few exist from the start, so that a
    /// rate over their first event is not lost.
    #[must_use]
    pub fn new() -> Self {
        let metrics = Self {
            series: Arc::new(Series::register()),
        };
        for result in ConnectionResult::ALL {
            let labels = ByResult {
                result: result.as_str(),
            };
            drop(metrics.series.connections.get_or_create(&labels));
        }
        for limit in Limit::ALL {
            let labels = ByLimit {
                limit: limit.as_str(),
            };
            drop(metrics.series.limits_reached.get_or_create(&labels));
        }
        for result in [AuthResult::Denied, AuthResult::Ok] {
            let labels = ByMethodResult {
                method: AuthMethod::PublicKey.as_str(),
                result: result.as_str(),
            };
            drop(metrics.series.auth_attempts.get_or_create(&labels));
        }
        for kind in SessionKind::ALL {
            let labels = ByKind {
                kind: kind.as_str(),
            };
            drop(metrics.series.sessions.get_or_create(&labels));
        }
        metrics
    }

    /// One file has its verdict.
    pub fn submission_settled(&self, partner: &PartnerId, feed: &FeedId, verdict: Verdict) {
        let labels = ByVerdict {
            partner: partner.to_string(),
            feed: feed.to_string(),
            verdict: verdict.as_str(),
        };
        self.series.submissions.get_or_create(&labels).inc();
    }

    /// Bytes of files as sent.
    pub fn bytes_received(&self, partner: &PartnerId, channel: Channel, bytes: u64) {
        let labels = ByPartnerChannel {
            partner: partner.to_string(),
            channel: channel.as_str(),
        };
        self.series
            .received_bytes
            .get_or_create(&labels)
            .inc_by(bytes);
    }

    /// Rows of a settled file, good and bad.
    pub fn rows_checked(&self, partner: &PartnerId, feed: &FeedId, good: u64, bad: u64) {
        for (result, rows) in [("ok", good), ("bad", bad)] {
            let labels = ByRowResult {
                partner: partner.to_string(),
                feed: feed.to_string(),
                result,
            };
            self.series.rows.get_or_create(&labels).inc_by(rows);
        }
    }

    /// The columns of a settled file differ from its contract's.
    pub fn schema_drifted(&self, partner: &PartnerId, feed: &FeedId, kind: DriftKind) {
        let labels = ByDrift {
            partner: partner.to_string(),
            feed: feed.to_string(),
            kind: kind.as_str(),
        };
        self.series.drift.get_or_create(&labels).inc();
    }

    /// How long a client waited in CLOSE or RENAME, microseconds.
    pub fn verdict_waited(&self, channel: Channel, micros: i64) {
        let labels = ByChannel {
            channel: channel.as_str(),
        };
        let waited = Duration::from_micros(u64::try_from(micros).unwrap_or(0));
        self.series
            .verdict_wait
            .get_or_create(&labels)
            .observe(waited.as_secs_f64());
    }

    /// One connection was taken or turned away.
    pub fn connection(&self, result: ConnectionResult) {
        let labels = ByResult {
            result: result.as_str(),
        };
        self.series.connections.get_or_create(&labels).inc();
    }

    /// One login attempt.
    pub fn auth_attempt(&self, method: AuthMethod, result: AuthResult) {
        let labels = ByMethodResult {
            method: method.as_str(),
            result: result.as_str(),
        };
        self.series.auth_attempts.get_or_create(&labels).inc();
    }

    /// Somebody ran into a bound.
    pub fn limit_reached(&self, limit: Limit) {
        let labels = ByLimit {
            limit: limit.as_str(),
        };
        self.series.limits_reached.get_or_create(&labels).inc();
    }

    /// Counts a session for as long as the answer lives.
    #[must_use]
    pub fn session(&self, kind: SessionKind) -> SessionCount {
        let labels = ByKind {
            kind: kind.as_str(),
        };
        let gauge = self.series.sessions.get_or_create_owned(&labels);
        gauge.inc();
        SessionCount(gauge)
    }

    /// The files as they are now are in force since `at`.
    pub fn config_reloaded(&self, at: Timestamp) {
        self.series.reload_successful.set(1);
        self.series.reload_success_timestamp.set(at.as_secs());
    }

    /// The files as they are now are not, or not all, in force.
    pub fn config_refused(&self) {
        self.series.reload_successful.set(0);
    }

    /// The last look at the files ended in [`Metrics::config_refused`], or there was none yet.
    #[must_use]
    pub fn is_config_refused(&self) -> bool {
        self.series.reload_successful.get() == 0
    }

    /// Submissions by state, as the ledger counts them; a state not named has none.
    pub fn submissions_in_state(&self, counts: &[(&'static str, u64)]) {
        self.series.in_state.clear();
        for (state, count) in counts {
            self.series
                .in_state
                .get_or_create(&ByState { state })
                .set(i64::try_from(*count).unwrap_or(i64::MAX));
        }
    }

    /// Everything as `OpenMetrics` 1.0 text, for [`Metrics::CONTENT_TYPE`].
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing into a String does not fail, and our labels have no encoder that does.
        match encode(&mut text, &self.series.registry) {
            Ok(()) | Err(fmt::Error) => text,
        }
    }

    /// What `render` gives.
    pub const CONTENT_TYPE: &'static str =
        "application/openmetrics-text; version=1.0.0; charset=utf-8";
}

// === impl Series ===

impl Series {
    /// The encoder adds `_total` to counters and `_info` to the build line.
    fn register() -> Self {
        let mut registry = Registry::default();
        registry.register(
            "sallyport_build",
            "Version of the running binary",
            Info::new([
                ("version", env!("CARGO_PKG_VERSION")),
                (
                    "revision",
                    option_env!("SALLYPORT_REVISION").unwrap_or("unknown"),
                ),
            ]),
        );
        let verdict_wait: Family<ByChannel, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(WAIT_BUCKETS_SECS));
        let mut series = Self {
            registry,
            submissions: Family::default(),
            received_bytes: Family::default(),
            rows: Family::default(),
            drift: Family::default(),
            verdict_wait,
            connections: Family::default(),
            auth_attempts: Family::default(),
            limits_reached: Family::default(),
            sessions: Family::default(),
            reload_successful: Gauge::default(),
            reload_success_timestamp: Gauge::default(),
            in_state: Family::default(),
        };
        let registry = &mut series.registry;
        registry.register(
            "sallyport_submissions",
            "Files by verdict",
            series.submissions.clone(),
        );
        registry.register(
            "sallyport_received_bytes",
            "Bytes of files as sent",
            series.received_bytes.clone(),
        );
        registry.register(
            "sallyport_rows",
            "Rows of settled files",
            series.rows.clone(),
        );
        registry.register(
            "sallyport_schema_drift",
            "Differences between the columns of settled files and their contracts",
            series.drift.clone(),
        );
        registry.register(
            "sallyport_verdict_wait_seconds",
            "What clients waited for their verdict",
            series.verdict_wait.clone(),
        );
        registry.register(
            "sallyport_ssh_connections",
            "Connections by what became of them",
            series.connections.clone(),
        );
        registry.register(
            "sallyport_auth_attempts",
            "Login attempts",
            series.auth_attempts.clone(),
        );
        registry.register(
            "sallyport_limits_reached",
            "Bounds of connections and sessions that somebody ran into",
            series.limits_reached.clone(),
        );
        registry.register(
            "sallyport_sessions",
            "Sessions open now",
            series.sessions.clone(),
        );
        registry.register(
            "sallyport_config_last_reload_successful",
            "1 when policies and keys as they are on disk are in force",
            series.reload_successful.clone(),
        );
        registry.register(
            "sallyport_config_last_reload_success_timestamp_seconds",
            "When policies and keys were last put in force whole",
            series.reload_success_timestamp.clone(),
        );
        registry.register(
            "sallyport_submissions_in_state",
            "Submissions by state",
            series.in_state.clone(),
        );
        series
    }
}

// === impl SessionCount ===

impl Drop for SessionCount {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Upper bounds, seconds; clients wait at most ten unless told otherwise.
const WAIT_BUCKETS_SECS: [f64; 12] = [
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_have_the_names_that_alerts_and_dashboards_use() {
        let (partner, feed) = (
            PartnerId::parse("acme").unwrap(),
            FeedId::parse("orders").unwrap(),
        );
        let metrics = Metrics::new();
        metrics.submission_settled(&partner, &feed, Verdict::Rejected);
        metrics.bytes_received(&partner, Channel::Sftp, 386);
        metrics.rows_checked(&partner, &feed, 1, 3);
        metrics.schema_drifted(&partner, &feed, DriftKind::Renamed);
        metrics.verdict_waited(Channel::Sftp, 20_000);
        metrics.connection(ConnectionResult::RefusedLimit);
        metrics.auth_attempt(AuthMethod::PublicKey, AuthResult::Denied);
        metrics.config_reloaded(Timestamp::from_micros(1_795_239_870_996_000));
        metrics.submissions_in_state(&[("failing", 2), ("delivered", 9)]);
        metrics.submissions_in_state(&[("delivered", 10)]);
        let open = metrics.session(SessionKind::Sftp);
        let text = metrics.render();
        let version = env!("CARGO_PKG_VERSION");
        for line in [
            &format!("sallyport_build_info{{version=\"{version}\",revision=\""),
            "sallyport_submissions_total{partner=\"acme\",feed=\"orders\",verdict=\"rejected\"} 1\n",
            "sallyport_received_bytes_total{partner=\"acme\",channel=\"sftp\"} 386\n",
            "sallyport_rows_total{partner=\"acme\",feed=\"orders\",result=\"ok\"} 1\n",
            "sallyport_schema_drift_total{partner=\"acme\",feed=\"orders\",kind=\"renamed\"} 1\n",
            "sallyport_rows_total{partner=\"acme\",feed=\"orders\",result=\"bad\"} 3\n",
            "sallyport_verdict_wait_seconds_bucket{le=\"0.01\",channel=\"sftp\"} 0\n",
            "sallyport_verdict_wait_seconds_bucket{le=\"0.025\",channel=\"sftp\"} 1\n",
            "sallyport_verdict_wait_seconds_sum{channel=\"sftp\"} 0.02\n",
            "sallyport_ssh_connections_total{result=\"refused_limit\"} 1\n",
            "sallyport_ssh_connections_total{result=\"ok\"} 0\n",
            "sallyport_auth_attempts_total{method=\"publickey\",result=\"denied\"} 1\n",
            "sallyport_sessions{kind=\"sftp\"} 1\n",
            "sallyport_sessions{kind=\"tunnel\"} 0\n",
            "sallyport_config_last_reload_successful 1\n",
            "sallyport_config_last_reload_success_timestamp_seconds 1795239870\n",
            "sallyport_submissions_in_state{state=\"delivered\"} 10\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("failing"));
        assert!(text.ends_with("# EOF\n"));
        drop(open);
        metrics.config_refused();
        let text = metrics.render();
        assert!(text.contains("sallyport_sessions{kind=\"sftp\"} 0\n"));
        assert!(text.contains("sallyport_config_last_reload_successful 0\n"));
        assert!(text.contains("_success_timestamp_seconds 1795239870\n"));
    }
}
