import com.github.dockerjava.api.DockerClient;
import com.github.dockerjava.api.async.ResultCallback;
import com.github.dockerjava.api.exception.ConflictException;
import com.github.dockerjava.api.exception.NotFoundException;
import com.github.dockerjava.api.model.ExposedPort;
import com.github.dockerjava.api.model.Frame;
import com.github.dockerjava.api.model.HostConfig;
import com.github.dockerjava.core.DefaultDockerClientConfig;
import com.github.dockerjava.core.DockerClientImpl;
import com.github.dockerjava.httpclient5.ApacheDockerHttpClient;
import java.io.ByteArrayInputStream;
import java.io.InputStream;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/** A program on docker-java, on which Testcontainers for Java stands: the first failed check ends it. */
public final class Scenario {
    private final DockerClient docker;

    private Scenario(DockerClient docker) {
        this.docker = docker;
    }

    public static void main(String[] arguments) throws Exception {
        var config = DefaultDockerClientConfig.createDefaultConfigBuilder().build();
        var transport = new ApacheDockerHttpClient.Builder()
            .dockerHost(config.getDockerHost()).sslConfig(config.getSSLConfig()).build();
        try (var docker = DockerClientImpl.getInstance(config, transport)) {
            var scenario = new Scenario(docker);
            scenario.errors();
            scenario.runWaitLogs();
            scenario.attach();
            scenario.exec();
            scenario.networksAndCopies();
        } catch (Throwable failure) {
            failure.printStackTrace();
            System.exit(1);
        }
        System.exit(0);
    }

    /** Collects a stream's text. */
    private static final class Text extends ResultCallback.Adapter<Frame> {
        private final StringBuffer text = new StringBuffer();

        @Override
        public void onNext(Frame frame) {
            text.append(frame.getStreamType()).append(':').append(new String(frame.getPayload()));
        }

        String get() throws InterruptedException {
            check(awaitCompletion(30, TimeUnit.SECONDS), "the stream did not end");
            return text.toString();
        }
    }

    private static void check(boolean good, String complaint) {
        if (!good) {
            throw new AssertionError(complaint);
        }
    }

    private static void done(String step) {
        System.out.println("ok " + step);
    }

    private String sleeper(HostConfig host) {
        var id = docker.createContainerCmd("busybox").withCmd("sleep", "100").withHostConfig(host)
            .withExposedPorts(ExposedPort.tcp(80)).exec().getId();
        docker.startContainerCmd(id).exec();
        return id;
    }

    private void remove(String id) {
        docker.removeContainerCmd(id).withForce(true).withRemoveVolumes(true).exec();
    }

    private void errors() {
        docker.pingCmd().exec();
        check("linux".equals(docker.infoCmd().exec().getOsType()), "info");
        try {
            docker.inspectContainerCmd("nosuch").exec();
            check(false, "found what is not there");
        } catch (NotFoundException expected) {
            check(expected.getMessage().contains("No such container: nosuch"), expected.getMessage());
        }
        var id = docker.createContainerCmd("busybox").withName("taken").exec().getId();
        try {
            docker.createContainerCmd("busybox").withName("taken").exec();
            check(false, "a name was given twice");
        } catch (ConflictException expected) {
            remove(id);
        }
        done("errors");
    }

    private void runWaitLogs() throws Exception {
        var id = docker.createContainerCmd("busybox").withCmd("sh", "-c", "echo out; exit 7").exec().getId();
        docker.startContainerCmd(id).exec();
        int code = docker.waitContainerCmd(id).start().awaitStatusCode(30, TimeUnit.SECONDS);
        check(code == 7, "exit code " + code);
        var logs = docker.logContainerCmd(id).withStdOut(true).withStdErr(true).withFollowStream(true).exec(new Text());
        check("STDOUT:out\n".equals(logs.get()), "logs");
        remove(id);
        done("run, wait, logs");
    }

    private void attach() throws Exception {
        var id = docker.createContainerCmd("busybox").withCmd("head", "-n", "1").withStdinOpen(true).withStdInOnce(true)
            .withAttachStdin(true).exec().getId();
        InputStream input = new ByteArrayInputStream("hello\n".getBytes());
        var output = docker.attachContainerCmd(id).withStdIn(input).withStdOut(true).withFollowStream(true).exec(new Text());
        output.awaitStarted(10, TimeUnit.SECONDS);
        docker.startContainerCmd(id).exec();
        check("STDOUT:hello\n".equals(output.get()), "attach");
        remove(id);
        done("attach");
    }

    private void exec() throws Exception {
        var id = sleeper(HostConfig.newHostConfig());
        var exec = docker.execCreateCmd(id).withCmd("sh", "-c", "echo $X; exit 3").withEnv(java.util.List.of("X=1"))
            .withAttachStdout(true).exec().getId();
        check("STDOUT:1\n".equals(docker.execStartCmd(exec).exec(new Text()).get()), "exec");
        check(docker.inspectExecCmd(exec).exec().getExitCodeLong() == 3, "exec's exit code");
        remove(id);
        done("exec");
    }

    private void networksAndCopies() throws Exception {
        var network = docker.createNetworkCmd().withName("javanet").exec().getId();
        var id = sleeper(HostConfig.newHostConfig().withNetworkMode("javanet").withPublishAllPorts(true)
            .withTmpFs(Map.of("/scratch", "size=1m")));
        var found = docker.inspectContainerCmd(id).exec();
        check(found.getNetworkSettings().getNetworks().containsKey("javanet"), "network");
        check(found.getNetworkSettings().getPorts().getBindings().get(ExposedPort.tcp(80)).length > 0, "port");
        try (var archive = docker.copyArchiveFromContainerCmd(id, "/etc/hosts").exec()) {
            check(new String(archive.readNBytes(5)).equals("hosts"), "archive");
        }
        remove(id);
        docker.removeNetworkCmd(network).exec();
        done("networks and copies");
    }
}
