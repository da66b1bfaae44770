package sqlitestore

// SetRun sets how large the runs of s become.
func SetRun(s *Store, size int) { s.run = size }

// Pragma returns a setting of a connection.
func Pragma(s *Store, name string) (value string) {
	if err := s.db.QueryRow("PRAGMA " + name).Scan(&value); err != nil {
		return err.Error()
	}
	return value
}

// InUse returns how many connections are in use.
func InUse(s *Store) int { return s.db.Stats().InUse }
