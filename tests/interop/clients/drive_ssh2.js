// ssh2-sftp-client behind a command line: PORT USER KEY HOST_KEY VERB ARGUMENT...

const fs = require("fs");
const path = require("path");
const Client = require("ssh2-sftp-client");

const [port, user, key, hostKey, verb, one, two] = process.argv.slice(2);

async function main() {
  const sftp = new Client();
  await sftp.connect({
    host: "127.0.0.1",
    port: Number(port),
    username: user,
    privateKey: fs.readFileSync(key),
    hostVerifier: (offered) => offered.equals(Buffer.from(hostKey.split(" ")[1], "base64")),
  });
  try {
    await act(sftp);
  } finally {
    await sftp.end();
  }
}

async function act(sftp) {
  const files = () => fs.readdirSync(one).sort();
  const putOne = (name) => sftp.put(path.join(one, name), `${two}/${name}`);
  switch (verb) {
    case "put":
      return sftp.put(one, two);
    case "resume": {
      const { size } = await sftp.stat(two);
      return sftp.append(fs.createReadStream(one, { start: size }), two);
    }
    case "put-all":
      for (const name of files()) await putOne(name);
      return;
    case "put-all-at-once":
      return Promise.all(files().map(putOne));
    case "put-folder":
      return sftp.uploadDir(one, two);
    case "get":
      return sftp.get(one, two);
    case "ls":
      for (const entry of await sftp.list(one)) console.log(entry.size, entry.name);
      return;
    case "rename":
      return sftp.posixRename(one, two);
    case "remove":
      return sftp.delete(one);
  }
}

main().catch((error) => {
  console.error(`${error.name}: ${error.message}`);
  process.exit(1);
});
