// What BuildKit's own Dockerfile frontend says to each Dockerfile of a corpus: the checks' warnings of a build, and its
// answers to subrequests. The builder that it talks to is made up: files are in memory, images have given configurations.
//
//	go run . < questions.json > answers.json
package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/builder"
	"github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	fstypes "github.com/tonistiigi/fsutil/types"
)

type question struct {
	Files   map[string]string         `json:"files"`
	Options map[string]string         `json:"options"`
	Images  map[string]map[string]any `json:"images"`
}

type warning struct {
	Short  string   `json:"short"`
	Detail []string `json:"detail"`
	URL    string   `json:"url"`
	Level  int      `json:"level"`
	Lines  []int32  `json:"lines"`
}

type answer struct {
	Warnings []warning         `json:"warnings"`
	Error    string            `json:"error"`
	Metadata map[string]string `json:"metadata"`
}

type fake struct {
	question question
	answer   *answer
}

func (f *fake) ResolveSourceMetadata(context.Context, *pb.SourceOp, sourceresolver.Opt) (*sourceresolver.MetaResponse, error) {
	return nil, errors.New("not here")
}

func (f *fake) Solve(_ context.Context, req client.SolveRequest) (*client.Result, error) {
	result := client.NewResult()
	result.SetRef(&files{f.question.Files})
	return result, nil
}

func (f *fake) ResolveImageConfig(_ context.Context, ref string, _ sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	name := strings.TrimSuffix(strings.TrimPrefix(ref, "docker.io/library/"), ":latest")
	config, ok := f.question.Images[name]
	if !ok {
		return "", "", nil, errors.New("no such image: " + name)
	}
	data, err := json.Marshal(config)
	return ref, digest.FromString(ref), data, err
}

func (f *fake) BuildOpts() client.BuildOpts {
	return client.BuildOpts{
		Opts:      f.question.Options,
		SessionID: "session",
		Workers:   []client.WorkerInfo{{ID: "w", Platforms: []ocispecs.Platform{{OS: "linux", Architecture: "amd64"}}}},
		Caps:      gwpb.Caps.CapSet(gwpb.Caps.All()),
		LLBCaps:   pb.Caps.CapSet(pb.Caps.All()),
	}
}

func (f *fake) Inputs(context.Context) (map[string]llb.State, error) { return nil, nil }

func (f *fake) NewContainer(context.Context, client.NewContainerRequest) (client.Container, error) {
	return nil, errors.New("not here")
}

func (f *fake) Warn(_ context.Context, _ digest.Digest, msg string, opts client.WarnOpts) error {
	found := warning{Short: msg, URL: opts.URL, Level: opts.Level}
	for _, line := range opts.Detail {
		found.Detail = append(found.Detail, string(line))
	}
	for _, each := range opts.Range {
		found.Lines = append(found.Lines, each.Start.Line)
	}
	f.answer.Warnings = append(f.answer.Warnings, found)
	return nil
}

type files struct{ content map[string]string }

func (f *files) ToState() (llb.State, error)    { return llb.Scratch(), nil }
func (f *files) Evaluate(context.Context) error { return nil }
func (f *files) ReadFile(_ context.Context, req client.ReadRequest) ([]byte, error) {
	content, ok := f.content[req.Filename]
	if !ok {
		return nil, os.ErrNotExist
	}
	return []byte(content), nil
}
func (f *files) StatFile(_ context.Context, req client.StatRequest) (*fstypes.Stat, error) {
	content, ok := f.content[req.Path]
	if !ok {
		return nil, os.ErrNotExist
	}
	return &fstypes.Stat{Path: req.Path, Size: int64(len(content))}, nil
}
func (f *files) ReadDir(context.Context, client.ReadDirRequest) ([]*fstypes.Stat, error) {
	return nil, nil
}

// A frontend that panics (it does when targets are asked of a file with a check comment in it) has said so.
func ask(made *fake) (result *client.Result, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("panic")
		}
	}()
	return builder.Build(context.Background(), made)
}

func main() {
	var questions map[string]question
	if err := json.NewDecoder(os.Stdin).Decode(&questions); err != nil {
		panic(err)
	}
	answers := map[string]*answer{}
	for name, each := range questions {
		found := &answer{Metadata: map[string]string{}, Warnings: []warning{}}
		result, err := ask(&fake{each, found})
		if err != nil {
			found.Error = err.Error()
		} else if _, asked := each.Options["requestid"]; asked {
			for key, value := range result.Metadata {
				found.Metadata[key] = string(value)
			}
		}
		answers[name] = found
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", " ")
	out.SetEscapeHTML(false)
	if err := out.Encode(answers); err != nil {
		panic(err)
	}
}
