// A program on dockerode, Node's client: each step checks what came back; the first failure ends it.
import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import Docker from "dockerode";

const docker = new Docker(); // DOCKER_HOST
const sleeper = { Image: "busybox", Cmd: ["sleep", "100"] };

async function withContainer(options, play) {
  const container = await docker.createContainer(options);
  try {
    return await play(container);
  } finally {
    await container.remove({ force: true, v: true });
  }
}

/** A multiplexed stream, read to its end, as [stdout, stderr]. */
async function split(stream) {
  const out = new PassThrough();
  const complaints = new PassThrough();
  docker.modem.demuxStream(stream, out, complaints);
  const both = Promise.all([text(out), text(complaints)]);
  await once(stream, "end");
  out.end();
  complaints.end();
  return both;
}

const steps = {
  async ping() {
    assert.equal(String(await docker.ping()), "OK");
    assert.equal((await docker.info()).OSType, "linux");
  },
  async errors() {
    await assert.rejects(docker.getContainer("nosuch").inspect(), { statusCode: 404 });
    await assert.rejects(docker.createContainer({ Image: "busybox", name: "a/b" }), { statusCode: 400 });
    await withContainer({ Image: "busybox", name: "taken" }, () =>
      assert.rejects(docker.createContainer({ Image: "busybox", name: "taken" }), { statusCode: 409 }),
    );
  },
  async run() {
    const out = new PassThrough();
    const complaints = new PassThrough();
    const both = Promise.all([text(out), text(complaints)]);
    const command = ["sh", "-c", "echo out; echo err >&2; exit 7"];
    const [result, container] = await docker.run("busybox", command, [out, complaints], { Tty: false });
    out.end();
    complaints.end();
    assert.equal(result.StatusCode, 7);
    assert.deepEqual(await both, ["out\n", "err\n"]);
    assert.deepEqual(await split(await container.logs({ follow: true, stdout: true, stderr: true })), ["out\n", "err\n"]);
    await container.remove();
  },
  async attach() {
    const options = { Image: "busybox", Cmd: ["cat"], OpenStdin: true, StdinOnce: true, AttachStdin: true, AttachStdout: true };
    await withContainer(options, async (container) => {
      const stream = await container.attach({ stream: true, stdin: true, stdout: true, stderr: true, hijack: true });
      await container.start();
      const input = "0123456789abcdef".repeat(20_000);
      const both = split(stream);
      stream.end(input);
      assert.equal((await both)[0], input);
      assert.equal((await container.wait()).StatusCode, 0);
    });
  },
  async exec() {
    await withContainer(sleeper, async (container) => {
      await container.start();
      const exec = await container.exec({
        Cmd: ["sh", "-c", "cat; echo $X >&2; exit 3"],
        Env: ["X=1"],
        AttachStdin: true,
        AttachStdout: true,
        AttachStderr: true,
      });
      const stream = await exec.start({ hijack: true, stdin: true });
      const both = split(stream);
      stream.end("in\n");
      assert.deepEqual(await both, ["in\n", "1\n"]);
      assert.equal((await exec.inspect()).ExitCode, 3);
    });
  },
  async archive() {
    await withContainer(sleeper, async (container) => {
      const header = Buffer.alloc(512);
      header.write("file");
      header.write("0000640\0" + "0000000\0" + "0000000\0" + "00000000007\0" + "00000000000\0" + " ".repeat(8) + "0", 100);
      header.write("ustar\0" + "00", 257);
      const sum = header.reduce((total, byte) => total + byte, 0);
      header.write(sum.toString(8).padStart(6, "0") + "\0 ", 148);
      const content = Buffer.alloc(512);
      content.write("content");
      await container.putArchive(Buffer.concat([header, content, Buffer.alloc(1024)]), { path: "/tmp" });
      const back = await container.getArchive({ path: "/tmp/file" });
      assert.match(await text(back), /^file\0[^]*content/);
      await assert.rejects(container.getArchive({ path: "/nosuch" }), { statusCode: 404 });
    });
  },
  async networksAndVolumes() {
    const network = await docker.createNetwork({ Name: "nodenet" });
    const volume = await docker.createVolume({ Labels: { from: "node" } });
    const { Name: name } = await docker.getVolume(volume.Name ?? volume.name).inspect();
    await withContainer(
      { ...sleeper, ExposedPorts: { "80/tcp": {} }, HostConfig: { NetworkMode: "nodenet", Binds: [`${name}:/data`], PublishAllPorts: true } },
      async (container) => {
        await container.start();
        const found = await container.inspect();
        assert.ok(found.NetworkSettings.Networks.nodenet.IPAddress);
        assert.ok(Number(found.NetworkSettings.Ports["80/tcp"][0].HostPort) > 1024);
        assert.equal(found.Mounts[0].Name, name);
      },
    );
    await docker.getVolume(name).remove();
    await network.remove();
  },
  async stats() {
    await withContainer({ ...sleeper, HostConfig: { Memory: 64 << 20 } }, async (container) => {
      await container.start();
      assert.equal((await container.stats({ stream: false })).memory_stats.limit, 64 << 20);
    });
  },
  async events() {
    const stream = await docker.getEvents({ filters: { type: ["container"], label: ["from=node"] } });
    const container = await docker.createContainer({ Image: "busybox", Cmd: ["true"], Labels: { from: "node" }, HostConfig: { AutoRemove: true } });
    const removed = container.wait({ condition: "removed" });
    await container.start();
    assert.equal((await removed).StatusCode, 0);
    const seen = [];
    for await (const chunk of stream) {
      seen.push(...String(chunk).trim().split("\n").map((line) => JSON.parse(line).Action));
      if (seen.includes("destroy")) break;
    }
    assert.deepEqual(seen, ["create", "start", "die", "destroy"]);
  },
};

setTimeout(() => assert.fail("a step hangs"), 60_000).unref();
for (const [name, play] of Object.entries(steps)) {
  await play();
  console.log("ok", name);
}
