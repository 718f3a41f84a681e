//! Every bound of the gateway, with its unit and the reason for its size.
//!
//! A bound that policy can lower or raise has its default here.

use std::time::Duration;

/// Longest path a client may name, bytes (`PATH_MAX` of Linux).
pub const PATH_BYTES_MAX: usize = 4096;
/// Longest single name, bytes (`NAME_MAX` of Linux; partners' tools know it).
pub const NAME_BYTES_MAX: usize = 255;

/// Longest SFTP packet taken, bytes: OpenSSH's `SFTP_MAX_MSG_LENGTH`. Longer: disconnect.
pub const SFTP_PACKET_BYTES_MAX: u32 = 256 * 1024;
/// Longest WRITE advertised by `limits@openssh.com`, bytes: 255 KiB leaves room for the header.
pub const SFTP_WRITE_BYTES_MAX: u32 = 261_120;
/// Longest DATA reply, bytes, as OpenSSH has it. What is asked for is given whole: libssh2 takes a
/// shorter answer in the middle of a file for an error.
pub const SFTP_READ_BYTES_MAX: u32 = 261_120;
/// Longest NAME reply, bytes; small enough for clients with little window.
pub const SFTP_NAMES_BYTES_MAX: usize = 32 * 1024;
/// Open handles of one connection, all channels together.
pub const SFTP_HANDLES_MAX: usize = 1024;
/// Uploads open at once on one connection: each may hold [`EXTENT_BYTES_MAX`] in memory, 16 MiB
/// in all.
pub const SFTP_UPLOADS_MAX: usize = 256;
/// Objects being fetched at once on one connection: each holds [`READ_AHEAD_BYTES_MAX`], 64 MiB in
/// all.
pub const SFTP_DOWNLOADS_MAX: usize = 32;
/// Bytes of one object fetched ahead of what its reader has asked for.
pub const READ_AHEAD_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// Requests of one channel waiting for an answer; past it the channel is closed.
pub const SFTP_PENDING_MAX: usize = 4096;
/// Bytes of requests of one connection that wait for others, over all its channels; past it the channel is
/// closed. Two paths of 4 KiB each are the longest.
pub const SFTP_WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What a request that waits takes beside its paths, bytes.
pub const SFTP_WAITING_REQUEST_BYTES: usize = 256;
/// Longest control line of legacy scp, bytes: a path and the words before it.
pub const SCP_LINE_BYTES_MAX: usize = 8192;
/// Longest status text, bytes (longer texts are cut by some clients).
pub const SFTP_STATUS_TEXT_BYTES_MAX: usize = 200;
/// Replies waiting for window on one channel, bytes; past it READ and READDIR are parked.
pub const SFTP_OUTPUT_BYTES_MAX: usize = 256 * 1024;
/// Bytes of messages on one channel's stderr: more can stall libraries that never read it.
pub const STDERR_BYTES_MAX: usize = 16 * 1024;
/// Lines told on stderr about one file.
pub const STDERR_LINES_MAX: usize = 8;

/// Channels of one connection.
pub const SSH_CHANNELS_MAX: usize = 64;
/// Login must be finished by then, milliseconds (OpenSSH `LoginGraceTime` is 120 s; robots abuse it).
pub const SSH_LOGIN_GRACE_MS: u64 = 20_000;
/// A connection without traffic ends, milliseconds.
pub const SSH_IDLE_MS: u64 = 600_000;
/// Authentication attempts of one connection (OpenSSH `MaxAuthTries`).
pub const SSH_AUTH_TRIES_MAX: usize = 6;
/// Connections not yet logged in, all sources together.
pub const SSH_UNAUTHENTICATED_MAX: usize = 200;
/// Connections not yet logged in, one source address (IPv6: one /64).
pub const SSH_UNAUTHENTICATED_PER_SOURCE_MAX: usize = 5;
/// Bytes a client may send before it is logged in: more than any key exchange, and every
/// allocation a claimed length could cause stays below it.
pub const SSH_HANDSHAKE_BYTES_MAX: usize = 1024 * 1024;
/// From half of the places without login on, newcomers are dropped at random, first with this
/// chance in percent, at all places taken with 100 (OpenSSH `MaxStartups 10:30:100`).
pub const SSH_EARLY_DROP_PERCENT: usize = 30;
/// Bytes a session may send a second unless its policy says otherwise: more than 8 Gbit/s. Past it
/// the gateway reads no faster.
pub const SSH_BYTES_PER_SEC_MAX: u64 = 1024 * 1024 * 1024;
/// Files a session may open a second unless its policy says otherwise: no client needs more, and each
/// costs a transaction. Past it OPENs wait.
pub const SFTP_FILES_PER_SEC_MAX: u32 = 5_000;
/// Seconds whose files a session may open at once before that counts.
pub const SFTP_FILES_BURST_SECS: u32 = 2;
/// Longest PROXY header taken, bytes: addresses and every TLV there is fit several times.
pub const PROXY_HEADER_BYTES_MAX: usize = 4096;
/// Penalty of a source whose login failed, milliseconds (OpenSSH `PerSourcePenalties authfail`).
pub const PENALTY_LOGIN_MS: i64 = 5_000;
/// Penalty for a connection that never tried to log in, milliseconds (OpenSSH `noauth`).
pub const PENALTY_NO_LOGIN_MS: i64 = 1_000;
/// Penalty for a login that took longer than the grace time, milliseconds (OpenSSH
/// `grace-exceeded`).
pub const PENALTY_GRACE_MS: i64 = 10_000;
/// Penalty for a connection that made something panic, milliseconds (OpenSSH `crash`).
pub const PENALTY_CRASH_MS: i64 = 90_000;
/// Penalties below this are remembered, not enforced, milliseconds (OpenSSH `min`).
pub const PENALTY_MIN_MS: i64 = 15_000;
/// Longest penalty, milliseconds (OpenSSH `max`).
pub const PENALTY_MAX_MS: i64 = 600_000;
/// Sources whose penalties are remembered (OpenSSH `max-sources4`); about 5 MB.
pub const PENALTY_SOURCES_MAX: usize = 65_536;
/// Sessions of one partner unless its policy says otherwise.
pub const SSH_SESSIONS_PER_PARTNER_MAX: usize = 10;

/// Most of a policy file that is read, bytes: more than the compiler takes, so that it can say so.
pub const POLICY_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Largest lookup list, bytes. It is read whole at every look at the folder.
pub const LIST_FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Most values of one: a value costs about 100 bytes of memory.
pub const LIST_VALUES_MAX: usize = 1_000_000;
/// Most reasons that are told of one row that is left out.
pub const REJECT_REASONS_MAX: usize = 10;
/// Bytes of rows left out that are read at once, and recorded as one reading.
pub const REJECTS_PIECE_BYTES: usize = 4 * 1024 * 1024;
/// Waits for a folder to be at rest before it is taken as it is.
pub const RELOAD_SETTLE_ROUNDS_MAX: usize = 20;
/// Longest account of one reload in the audit, bytes.
pub const RELOAD_DETAIL_BYTES_MAX: usize = 8 * 1024;
/// Largest `partners/<id>.pub`, bytes.
pub const KEY_FILE_BYTES_MAX: u64 = 256 * 1024;
/// Lines of one `partners/<id>.pub`.
pub const KEY_FILE_LINES_MAX: usize = 1000;
/// Longest line of one, bytes (OpenSSH `SSH_MAX_PUBKEY_BYTES`; RSA with 16384 bits takes 2.8 KB).
pub const KEY_LINE_BYTES_MAX: usize = 16 * 1024;
/// Key comments are cut here, characters.
pub const KEY_COMMENT_CHARS_MAX: usize = 80;
/// Shortest RSA modulus, bits (NIST SP 800-57: 2048 gives 112 bits of strength).
pub const RSA_BITS_MIN: u32 = 2048;
/// Longest RSA modulus, bits (OpenSSH's bound; a longer one costs too much to verify).
pub const RSA_BITS_MAX: u32 = 16_384;
/// Largest private key file, bytes.
pub const PRIVATE_KEY_BYTES_MAX: u64 = 64 * 1024;

/// Plaintext bytes of one sealed extent.
pub const EXTENT_BYTES_MAX: usize = 64 * 1024;
/// Extents of an upload that stay plain in memory for the digest and the inspection behind it, 1 MiB
/// in all: at 500 MB/s two milliseconds, what a task waits for a processor now and then.
pub const SPOOL_LATEST_EXTENTS: usize = 16;
/// Uploads that have such memory at once, 64 MiB in all; the others read back from the disk.
pub const SPOOL_LATEST_LANES_MAX: usize = 64;
/// Files up to this size live inside their ledger row, bytes.
pub const INLINE_BYTES_MAX: usize = 64 * 1024;
/// Pieces one lane may lie in, written out of order: 8 GiB of 32 KiB writes, none next to the one
/// before it. Each takes about 64 bytes of memory.
pub const SPOOL_PIECES_MAX: usize = 262_144;
/// Plaintext handed to inspection at once, bytes.
pub const INSPECT_BATCH_BYTES: usize = 1024 * 1024;

/// Shortest and longest quiet window, milliseconds: below a second it is a race with the client, and
/// past a day the partner has long asked.
pub const QUIET_WINDOW_MS_MIN: u64 = 1_000;
/// See [`QUIET_WINDOW_MS_MIN`].
pub const QUIET_WINDOW_MS_MAX: u64 = 24 * 3_600_000;

/// Longest policy or main config, bytes: a hundred feeds fit ten times over.
pub const RULES_BYTES_MAX: usize = 1024 * 1024;
/// A compiled regular expression of a policy, bytes; past it the pattern is refused.
pub const REGEX_BYTES_MAX: usize = 1024 * 1024;
/// Longest key template, bytes: S3 keys end at 1,024, and placeholders grow.
pub const KEY_BYTES_MAX: usize = 512;
/// Longest cell a contract may allow, bytes.
pub const FIELD_BYTES_CEILING: u64 = 16 * 1024 * 1024;
/// Longest record a contract may allow, bytes: one record is held in memory.
pub const RECORD_BYTES_CEILING: u64 = 64 * 1024 * 1024;
/// Columns a contract may allow.
pub const COLUMNS_CEILING: u64 = 65_536;
/// Largest file a feed may allow, bytes (5 TB, the largest S3 object).
pub const FILE_BYTES_CEILING: u64 = 5_000_000_000_000;
/// Characters `keep = "first:N"` or `"last:N"` may leave readable.
pub const KEEP_CHARS_MAX: usize = 64;

/// Longest cell unless the contract says otherwise, bytes.
pub const FIELD_BYTES_MAX: usize = 64 * 1024;
/// Longest record unless the contract says otherwise, bytes.
pub const RECORD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Columns of a record unless the contract says otherwise.
pub const COLUMNS_MAX: usize = 4096;
/// Largest file unless the feed says otherwise, bytes (5 GB).
pub const FILE_BYTES_MAX: u64 = 5_000_000_000;
/// Decompressed over compressed size unless the feed says otherwise.
pub const DECOMPRESS_RATIO_MAX: u64 = 200;
/// Decompressed size unless the feed says otherwise, bytes (50 GB).
pub const DECOMPRESS_BYTES_MAX: u64 = 50_000_000_000;
/// Samples kept per code and column, whatever else there is: what JSON receipts show.
pub const SAMPLES_PER_CODE_MAX: usize = 100;
/// Samples kept in all beyond those, for the table of errors.
pub const SAMPLES_IN_TABLE_MAX: usize = 2_000;
/// A table of errors ends when it has so many bytes: it stays in the ledger, and a file of some bytes,
/// compressed, can hold any number of errors.
pub const TABLE_BYTES_MAX: usize = 128 * 1024;
/// Errors past which a receipt has a table of them: fewer are read where they stand.
pub const TABLE_FROM_ERRORS: u64 = 20;
/// Samples per code shown in text receipts.
pub const SAMPLES_IN_TEXT_MAX: usize = 5;
/// Memory one file's uniqueness checks may take before the file is refused, bytes.
pub const UNIQUE_BYTES_MAX: usize = 512 * 1024 * 1024;
/// What one remembered value costs at most, bytes: 20 in a table between 2/3 and 7/8 full.
pub const UNIQUE_VALUE_BYTES: usize = 32;
/// Differences between a file's columns and its contract's that are told.
pub const DRIFTS_PER_FILE_MAX: usize = 64;
/// The same that are remembered of one feed: no more than a person would look through.
pub const DRIFTS_PER_FEED_MAX: u32 = 256;
/// Names of missing columns and labels of new ones that are compared.
pub const DRIFT_PAIRS_MAX: usize = 4096;
/// Characters of a label that are remembered.
pub const LABEL_CHARS_MAX: usize = 128;
/// Rows from which on a column of another type is told from some wrong values.
pub const RETYPED_ROWS_MIN: u64 = 10;
/// Text inspected at once, bytes: small enough for a core's own cache, index included.
pub const INSPECT_PIECE_BYTES: usize = 128 * 1024;
/// Processor time to check one file, seconds: what nobody should need for so little.
pub const INSPECT_CPU_SECS: u64 = 60;
/// More of it for each MiB of the file as sent, seconds: at the usual ratio that is 20 MB of text a second,
/// a tenth of what a core does.
pub const INSPECT_CPU_SECS_PER_MIB: u64 = 10;
/// Rows left out of one file that are kept whatever its size, bytes.
pub const REJECTS_BYTES_FREE: u64 = 64 * 1024 * 1024;
/// Past that, bytes of them for each byte of the file as sent: a short row makes some forty times as much
/// of itself, and what is compressed is many rows.
pub const REJECTS_PER_BYTE_MAX: u64 = 4;
/// The most there is of them while a file arrives, bytes: what they take of the disk before they count for
/// anybody.
pub const REJECTS_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Decompressed bytes handed on at once.
pub const INFLATE_PIECE_BYTES: usize = 64 * 1024;
/// bzip2 streams of one file that cost nothing.
pub const BZIP2_STREAMS_FREE: u64 = 16;
/// Compressed bytes for each further stream: parallel compressors make larger ones of all that may
/// pass the ratio.
pub const BZIP2_STREAM_BYTES: u64 = 2048;
/// Largest window of a zstd frame, as a power of two, bytes: 8 MiB, what RFC 8878 recommends to take.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// Decompressed bytes before the ratio is judged: tiny files may be all blanks.
pub const INFLATE_RATIO_FREE_BYTES: u64 = 64 * 1024;
/// Compressed bytes between two looks at the ratio.
pub const INFLATE_RATIO_STEP_BYTES: u64 = 4096;
/// Blank lines that may follow a trailer and leave it the last line.
pub const TRAILER_BLANK_LINES_MAX: usize = 1024;
/// Bytes from a file's first fault of encoding on that are asked what they might be.
pub const ENCODING_SAMPLE_BYTES: usize = 4096;
/// Characters of a cell shown in a sample.
pub const SAMPLE_VALUE_CHARS_MAX: usize = 40;
/// Characters of a sensitive cell's shape.
pub const SAMPLE_SHAPE_CHARS_MAX: usize = 24;

/// Longest a CLOSE waits for its verdict, milliseconds (WinSCP gives up at 15 s).
pub const VERDICT_WAIT_MS: u64 = 10_000;
/// How long an accepted name stays listed in the inbox, seconds.
pub const KEEP_VISIBLE_SECS: u64 = 24 * 3600;
/// Rows of one page of a listing; a page is in memory for each folder that is open.
pub const LISTING_ROWS_MAX: usize = 500;
/// Silence after which a keepalive is sent to a client, and again, at least: one that lives is never
/// silent for longer than this and a round trip.
pub const KEEPALIVE: Duration = Duration::from_secs(15);
/// Keepalives without an answer after which a connection ends: minutes, as networks come back.
pub const KEEPALIVES_UNANSWERED_MAX: usize = 12;
/// How long a keepalive may go unanswered before the same key may take over what its connection was
/// sending.
pub const KEEPALIVE_ANSWER: Duration = Duration::from_secs(5);
/// How long what a dead connection has sent may take to be kept.
pub const CUT_WITHIN: Duration = Duration::from_secs(10);
/// A file removed so long ago is not what the next one of its name replaces, microseconds: lftp and
/// `WinSCP` remove just before they rename.
pub const REPLACE_WITHIN_MICROS: i64 = 60_000_000;
/// Removed and truncated names that are remembered.
pub const NAMES_REMEMBERED_MAX: usize = 10_000;
/// Empty folders of one partner that are remembered.
pub const FOLDERS_REMEMBERED_MAX: usize = 1000;
/// How long `stat` of a rejected name answers with its verdict, seconds.
pub const REJECTED_STAT_SECS: u64 = 15 * 60;
/// How long an interrupted submission can be resumed, seconds.
pub const PARTIAL_TTL_SECS: u64 = 48 * 3600;
/// How long a held file waits for a decision before it is rejected, seconds.
pub const QUARANTINE_TTL_SECS: u64 = 30 * 24 * 3600;
/// How long receipts are listed, seconds.
pub const RECEIPTS_TTL_SECS: u64 = 90 * 24 * 3600;
/// Raw bytes of all partners in the spool, bytes (200 GB).
pub const SPOOL_QUOTA_BYTES: u64 = 200_000_000_000;

/// Ledger requests waiting for the writer thread.
pub const LEDGER_QUEUE_MAX: usize = 1024;
/// Ledger requests committed together at most.
pub const LEDGER_GROUP_MAX: usize = 256;
/// Read connections of the ledger: what stands in one another's way are disks, not readers.
pub const LEDGER_READERS_MAX: usize = 4;
/// Longest wait for another program that holds the ledger file, milliseconds.
pub const LEDGER_BUSY_MS: u64 = 5_000;
/// Longest a destroyed key stays in the write-ahead log while requests keep coming, milliseconds;
/// with the wait for idleness it stays under a second.
pub const LEDGER_SCRUB_MS: i64 = 800;
/// Without a request for so long the ledger uses the pause to empty its log, milliseconds.
pub const LEDGER_IDLE_MS: u64 = 100;
/// One line on the admin socket, bytes.
pub const ADMIN_LINE_BYTES_MAX: usize = 1024 * 1024;
/// One answer of the admin socket as the command line takes it, bytes.
pub const ADMIN_ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Rows one admin act looks at.
pub const ADMIN_ROWS_MAX: usize = 10_000;
/// Connections to the admin socket at once.
pub const ADMIN_CONNECTIONS_MAX: usize = 32;
/// An admin connection without a whole line ends, milliseconds.
pub const ADMIN_IDLE_MS: u64 = 60_000;
/// Pause after an accept that failed (no file descriptors left), milliseconds.
pub const ADMIN_ACCEPT_PAUSE_MS: u64 = 200;
/// Time between scans of watched folders, milliseconds: the scan is the truth, notify the hint.
pub const SCAN_INTERVAL_MS: u64 = 5_000;
/// Quiet time after a change before a reload, milliseconds: editors write in steps.
pub const RELOAD_SETTLE_MS: u64 = 150;
/// Time given to running transfers when the gateway is told to stop, milliseconds.
pub const DRAIN_MS: u64 = 90_000;
/// Objects being written to stores at once: on a local disk more only wait for one another, and take
/// the processor from those who wait for a verdict (measured: 8 at once halve the small files taken a
/// second).
pub const DELIVERIES_MAX: usize = 2;
/// Longest a watchdog's question to the ledger may take, milliseconds.
pub const ALIVE_WAIT_MS: u64 = 5_000;
/// Between two counts of submissions by state, milliseconds.
pub const STATES_COUNTED_MS: u64 = 15_000;
/// Between two looks for files whose quiet window is over, milliseconds.
pub const QUIET_LOOKS_MS: u64 = 2_000;
/// Between two looks for unfinished files whose time is over, milliseconds.
pub const EXPIRY_LOOKS_MS: u64 = 60_000;

/// Memory a decoder of whole files may have, bytes.
pub const DECODE_MEMORY_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Seconds of CPU a decoder has for any file.
pub const DECODE_SECONDS_MIN: u64 = 4;
/// And so many bytes of a file give it one more.
pub const DECODE_BYTES_PER_SECOND_MIN: u64 = 4 * 1024 * 1024;
/// Decoders at work at the same time; further files wait.
pub const DECODERS_MAX: usize = 4;
/// Files that wait for one; further ones are to come again later.
pub const DECODERS_WAITING_MAX: usize = 32;
/// Columns a sheet can have (ECMA-376, XFD).
pub const SHEET_COLUMNS_MAX: usize = 16_384;
/// First bytes that tell what a file is.
pub const HEAD_BYTES: u64 = 16;
