// Package registry fetches images from registries, pushes them there, and reads them from OCI layouts and
// docker-save archives.
//
// An image is go-containerregistry's v1.Image whatever it came from, so a sink (package layers, a push) needs to know
// nothing of this package. What is promised about its bytes, and who checks it:
//
//   - The manifest and the configuration are fetched, verified (digest, size, the Docker-Content-Digest header) and
//     checked for things that hull cannot run before [Client.Pull] or [Open] returns.
//   - A layer's compressed bytes are verified by the reader that v1.Layer.Compressed returns: digest and size, once,
//     as they pass. The verdict is its last Read: io.EOF means verified, anything else means not. A caller that stops
//     before io.EOF, for example at the end of a tar, has not verified the layer.
//   - The diff ID is the sink's to check, because only the sink sees the uncompressed bytes.
//
// The hash is computed in Read, so a sink that decompresses in another goroutine than it reads overlaps the two.
//
// Nothing is kept on disk here. Layers are streamed: a blob costs one connection and a buffer of 256 KiB.
package registry
