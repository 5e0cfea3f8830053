"""What `lvjobs doctor` looks at, what it means, and what to type. It changes nothing."""
