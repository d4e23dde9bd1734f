package network

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Somebody else's "nft flush ruleset", with which a reload of nftables.service begins, takes everybody's tables away. Without
// hull's the host's published ports lead nowhere, the host may route between its own interfaces, and a container may speak to
// its loopback where open has to let it (route_localnet). Whatever command looks at a container or at networks writes them anew, and
// the process that answers for names does at once.

// Renew writes the rules of networks anew that somebody has thrown away. If all is well it has only asked the kernel.
func (s *Networks) Renew() error {
	if s.UserSpace {
		return nil
	}
	lost, err := s.lost()
	if err != nil || len(lost) == 0 {
		return err
	}
	lock, err := s.lock() // with which nobody is in the midst of attaching or detaching
	if err != nil {
		return err
	}
	defer lock.Close()
	if lost, err = s.lost(); err != nil {
		return err
	}
	var errs []error
	for _, n := range lost {
		if n.prune(); len(n.Endpoints) > 0 { // else Mend takes the bridge away
			s.open(n)
			errs = append(errs, s.apply(n))
		}
	}
	return errors.Join(errs...)
}

// lost are the networks that have a bridge but no table.
func (s *Networks) lost() (lost []*Network, err error) {
	list, err := s.List()
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(n *Network) bool { return n.Driver != "bridge" || !linkExists(n.Interface()) })
	if len(list) == 0 {
		return nil, nil
	}
	conn, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	tables, err := conn.ListTables()
	if err != nil {
		return nil, fmt.Errorf("nftables: list tables: %w", err)
	}
	for _, n := range list {
		if !slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == n.Interface() && t.Family == n.family() }) {
			lost = append(lost, n)
		}
	}
	return lost, nil
}

// keepRules renews them at once whenever a table is removed, until the process ends.
func (s *Networks) keepRules() {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (unix.NFNLGRP_NFTABLES - 1)}) != nil {
		return
	}
	_ = s.Renew()               // of what was lost before; who cannot will be told by the next command
	buf := make([]byte, 16<<10) // more than the kernel puts into one datagram
	for {
		n, err := unix.Read(fd, buf)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENOBUFS): // something was missed
		case err != nil:
			return
		case !removesTable(buf[:n]):
			continue
		}
		_ = s.Renew()
	}
}

func removesTable(data []byte) bool {
	messages, err := syscall.ParseNetlinkMessage(data)
	return err != nil || slices.ContainsFunc(messages, func(m syscall.NetlinkMessage) bool {
		return m.Header.Type == unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_DELTABLE
	})
}
