// A program on Docker's Go client (github.com/moby/moby/client): each step checks what came back and names itself
// when it fails. DOCKER_HOST says where the engine is.
package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
)

var ctx, cancel = context.WithTimeout(context.Background(), 60*time.Second)

func main() {
	defer cancel()
	engine, err := client.New(client.FromEnv)
	must(err)
	defer engine.Close()
	for _, step := range []struct {
		name string
		play func(*client.Client)
	}{
		{"ping", ping},
		{"errors", errors},
		{"run, wait, logs", runWaitLogs},
		{"attach", attach},
		{"exec", exec},
		{"copy", copying},
		{"networks and volumes", networksAndVolumes},
		{"stats", stats},
		{"events", events},
	} {
		log.SetPrefix(step.name + ": ")
		step.play(engine)
		fmt.Println("ok", step.name)
	}
}

func must(err error) {
	if err != nil {
		log.Output(2, err.Error())
		os.Exit(1)
	}
}

func equal[T comparable](got, want T) {
	if got != want {
		log.Output(2, fmt.Sprintf("got %#v, want %#v", got, want))
		os.Exit(1)
	}
}

func create(engine *client.Client, config container.Config, host container.HostConfig) string {
	config.Image = "busybox"
	made, err := engine.ContainerCreate(ctx, client.ContainerCreateOptions{Config: &config, HostConfig: &host})
	must(err)
	return made.ID
}

func start(engine *client.Client, id string) {
	_, err := engine.ContainerStart(ctx, id, client.ContainerStartOptions{})
	must(err)
}

func remove(engine *client.Client, id string) {
	_, err := engine.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	must(err)
}

func exitCode(wait client.ContainerWaitResult) int64 {
	select {
	case result := <-wait.Result:
		return result.StatusCode
	case err := <-wait.Error:
		must(err)
	}
	return -1
}

func ping(engine *client.Client) {
	answer, err := engine.Ping(ctx, client.PingOptions{})
	must(err)
	equal(answer.OSType, "linux")
}

func errors(engine *client.Client) {
	_, err := engine.ContainerInspect(ctx, "nosuch", client.ContainerInspectOptions{})
	equal(errdefs.IsNotFound(err), true)
	_, err = engine.ContainerCreate(ctx, client.ContainerCreateOptions{Name: "a/b", Image: "busybox"})
	equal(errdefs.IsInvalidArgument(err), true)
	options := client.ContainerCreateOptions{Name: "taken", Config: &container.Config{Image: "busybox"}}
	made, err := engine.ContainerCreate(ctx, options)
	must(err)
	_, err = engine.ContainerCreate(ctx, options)
	equal(errdefs.IsConflict(err), true)
	remove(engine, made.ID)
}

func runWaitLogs(engine *client.Client) {
	script := "echo out; echo err >&2; exit 7"
	id := create(engine, container.Config{Cmd: []string{"sh", "-c", script}}, container.HostConfig{})
	defer remove(engine, id)
	wait := engine.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: container.WaitConditionNextExit})
	start(engine, id)
	equal(exitCode(wait), 7)
	options := client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Follow: true}
	logs, err := engine.ContainerLogs(ctx, id, options)
	must(err)
	defer logs.Close()
	var out, complaints bytes.Buffer
	_, err = stdcopy.StdCopy(&out, &complaints, logs)
	must(err)
	equal(out.String(), "out\n")
	equal(complaints.String(), "err\n")
	found, err := engine.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	must(err)
	equal(found.Container.State.ExitCode, 7)
}

func attach(engine *client.Client) {
	config := container.Config{Cmd: []string{"cat"}, OpenStdin: true, StdinOnce: true, AttachStdin: true, AttachStdout: true}
	id := create(engine, config, container.HostConfig{})
	defer remove(engine, id)
	options := client.ContainerAttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true}
	attached, err := engine.ContainerAttach(ctx, id, options)
	must(err)
	defer attached.Close()
	start(engine, id)
	input := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	go func() {
		attached.Conn.Write(input)
		attached.CloseWrite()
	}()
	var out, complaints bytes.Buffer
	_, err = stdcopy.StdCopy(&out, &complaints, attached.Reader)
	must(err)
	equal(bytes.Equal(out.Bytes(), input), true)
	wait := engine.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
	equal(exitCode(wait), 0)
}

func exec(engine *client.Client) {
	id := create(engine, container.Config{Cmd: []string{"sleep", "100"}}, container.HostConfig{})
	defer remove(engine, id)
	start(engine, id)
	made, err := engine.ExecCreate(ctx, id, client.ExecCreateOptions{
		Cmd: []string{"sh", "-c", "cat; echo $X >&2; exit 3"}, Env: []string{"X=1"},
		AttachStdin: true, AttachStdout: true, AttachStderr: true,
	})
	must(err)
	attached, err := engine.ExecAttach(ctx, made.ID, client.ExecAttachOptions{})
	must(err)
	_, err = attached.Conn.Write([]byte("in\n"))
	must(err)
	must(attached.CloseWrite())
	var out, complaints bytes.Buffer
	_, err = stdcopy.StdCopy(&out, &complaints, attached.Reader)
	must(err)
	attached.Close()
	equal(out.String(), "in\n")
	equal(complaints.String(), "1\n")
	done, err := engine.ExecInspect(ctx, made.ID, client.ExecInspectOptions{})
	must(err)
	equal(done.Running, false)
	equal(done.ExitCode, 3)

	terminal, err := engine.ExecCreate(ctx, id, client.ExecCreateOptions{
		Cmd: []string{"stty", "size"}, TTY: true, AttachStdout: true, ConsoleSize: client.ConsoleSize{Height: 33, Width: 77},
	})
	must(err)
	attached, err = engine.ExecAttach(ctx, terminal.ID, client.ExecAttachOptions{TTY: true, ConsoleSize: client.ConsoleSize{Height: 33, Width: 77}})
	must(err)
	raw, err := io.ReadAll(attached.Reader)
	must(err)
	attached.Close()
	equal(string(raw), "33 77\r\n")
}

func copying(engine *client.Client) {
	id := create(engine, container.Config{Cmd: []string{"sleep", "100"}}, container.HostConfig{})
	defer remove(engine, id)
	start(engine, id)
	var archive bytes.Buffer
	writer := tar.NewWriter(&archive)
	must(writer.WriteHeader(&tar.Header{Name: "file", Mode: 0o640, Size: 7, Uid: 12, Gid: 34}))
	_, err := writer.Write([]byte("content"))
	must(err)
	must(writer.Close())
	_, err = engine.CopyToContainer(ctx, id, client.CopyToContainerOptions{DestinationPath: "/tmp", Content: &archive})
	must(err)
	got, err := engine.CopyFromContainer(ctx, id, client.CopyFromContainerOptions{SourcePath: "/tmp/file"})
	must(err)
	defer got.Content.Close()
	equal(got.Stat.Size, 7)
	equal(got.Stat.Mode.Perm(), 0o640)
	reader := tar.NewReader(got.Content)
	header, err := reader.Next()
	must(err)
	equal(header.Name, "file")
	content, err := io.ReadAll(reader)
	must(err)
	equal(string(content), "content")
	_, err = engine.CopyFromContainer(ctx, id, client.CopyFromContainerOptions{SourcePath: "/nosuch"})
	equal(errdefs.IsNotFound(err), true)
}

func networksAndVolumes(engine *client.Client) {
	_, err := engine.NetworkCreate(ctx, "gonet", client.NetworkCreateOptions{Driver: "bridge"})
	must(err)
	volume, err := engine.VolumeCreate(ctx, client.VolumeCreateOptions{Labels: map[string]string{"from": "go"}})
	must(err)
	port, err := network.ParsePort("80/tcp")
	must(err)
	id := create(engine,
		container.Config{Cmd: []string{"sleep", "100"}, ExposedPorts: network.PortSet{port: {}}},
		container.HostConfig{
			NetworkMode:  "gonet",
			Binds:        []string{volume.Volume.Name + ":/data"},
			PortBindings: network.PortMap{port: []network.PortBinding{{}}},
		})
	start(engine, id)
	found, err := engine.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	must(err)
	equal(len(found.Container.NetworkSettings.Ports[port]) > 0, true)
	equal(found.Container.NetworkSettings.Networks["gonet"].IPAddress.Is4(), true)
	equal(found.Container.Mounts[0].Name, volume.Volume.Name)
	remove(engine, id)
	_, err = engine.VolumeRemove(ctx, volume.Volume.Name, client.VolumeRemoveOptions{})
	must(err)
	_, err = engine.NetworkRemove(ctx, "gonet", client.NetworkRemoveOptions{})
	must(err)
}

func stats(engine *client.Client) {
	config := container.Config{Cmd: []string{"sleep", "100"}}
	id := create(engine, config, container.HostConfig{Resources: container.Resources{Memory: 64 << 20}})
	defer remove(engine, id)
	start(engine, id)
	answer, err := engine.ContainerStats(ctx, id, client.ContainerStatsOptions{})
	must(err)
	defer answer.Body.Close()
	var reading container.StatsResponse
	must(json.NewDecoder(answer.Body).Decode(&reading))
	equal(reading.MemoryStats.Limit, 64<<20)
	equal(reading.PidsStats.Current, 1)
}

func events(engine *client.Client) {
	listening, stop := context.WithCancel(ctx)
	defer stop()
	filters := client.Filters{}.Add("type", "container").Add("label", "from=go")
	stream := engine.Events(listening, client.EventsListOptions{Filters: filters})
	config := container.Config{Cmd: []string{"true"}, Labels: map[string]string{"from": "go"}}
	id := create(engine, config, container.HostConfig{AutoRemove: true})
	wait := engine.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: container.WaitConditionRemoved})
	start(engine, id)
	equal(exitCode(wait), 0)
	var seen []string
	for len(seen) == 0 || seen[len(seen)-1] != "destroy" {
		select {
		case message := <-stream.Messages:
			seen = append(seen, string(message.Action))
		case err := <-stream.Err:
			must(err)
		}
	}
	equal(strings.Join(seen, " "), "create start die destroy")
}
