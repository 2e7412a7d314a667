package image_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// capabilityAttr is the file attribute that holds capabilities
// (capabilities(7), "File capabilities"); layers carry attributes as PAX
// records with a prefix.
const (
	capabilityAttr = "security.capability"
	attrPrefix     = "SCHILY.xattr."
)

// imageConfig is what a runtime reads of an image (OCI image specification,
// config).
type imageConfig struct {
	Config struct {
		User       string
		Entrypoint []string
		Cmd        []string
		Env        []string
		WorkingDir string
	} `json:"config"`
}

// archive is an OCI archive in memory, by path.
type archive map[string][]byte

func readArchive(path string) (archive, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	a := make(archive)
	err = eachFile(file, func(h *tar.Header, body io.Reader) error {
		if h.Typeflag != tar.TypeReg {
			return nil
		}
		text, err := io.ReadAll(body)
		a[h.Name] = text
		return err
	})
	return a, err
}

// blob reads what a descriptor's digest names.
func (a archive) blob(digest string) ([]byte, error) {
	path := "blobs/" + strings.Replace(digest, ":", "/", 1)
	text, ok := a[path]
	if !ok {
		return nil, fmt.Errorf("the archive has no %s", path)
	}
	return text, nil
}

// unpack writes the image's files below dir and returns its configuration.
func (a archive) unpack(dir string) (imageConfig, error) {
	var config imageConfig
	var index struct {
		Manifests []struct{ Digest string }
	}
	if err := json.Unmarshal(a["index.json"], &index); err != nil {
		return config, fmt.Errorf("index.json: %w", err)
	}
	if len(index.Manifests) != 1 {
		return config, fmt.Errorf("index.json names %d images, want 1", len(index.Manifests))
	}
	var manifest struct {
		Config struct{ Digest string }
		Layers []struct{ Digest string }
	}
	if err := a.decode(index.Manifests[0].Digest, &manifest); err != nil {
		return config, err
	}
	if err := a.decode(manifest.Config.Digest, &config); err != nil {
		return config, err
	}
	for _, layer := range manifest.Layers {
		packed, err := a.blob(layer.Digest)
		if err != nil {
			return config, err
		}
		text, err := gzip.NewReader(bytes.NewReader(packed))
		if err != nil {
			return config, err
		}
		err = eachFile(text, func(h *tar.Header, body io.Reader) error { return unpackFile(dir, h, body) })
		if err != nil {
			return config, err
		}
	}
	return config, nil
}

func (a archive) decode(digest string, into any) error {
	text, err := a.blob(digest)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

func eachFile(r io.Reader, visit func(*tar.Header, io.Reader) error) error {
	for files := tar.NewReader(r); ; {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := visit(h, files); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

// unpackFile makes one entry of a layer, with its owner and its attributes.
func unpackFile(dir string, h *tar.Header, body io.Reader) error {
	if !filepath.IsLocal(h.Name) && h.Name != "/" {
		return errors.New("a path that leaves the image")
	}
	path := filepath.Join(dir, h.Name)
	switch h.Typeflag {
	case tar.TypeDir:
		return os.MkdirAll(path, h.FileInfo().Mode().Perm())
	case tar.TypeSymlink:
		return os.Symlink(h.Linkname, path)
	case tar.TypeReg:
	default:
		return fmt.Errorf("type %q in an image of plain files and links", h.Typeflag)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, h.FileInfo().Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(file, body)
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	// The owner comes first: a change of it takes capabilities away.
	if err := os.Chown(path, h.Uid, h.Gid); err != nil {
		return err
	}
	for record, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(record, attrPrefix)
		if !ok {
			continue
		}
		if err := syscall.Setxattr(path, name, []byte(value), 0); err != nil {
			return err
		}
	}
	return nil
}
