"""What a build tells, for eyes and for programs: live on a terminal, in lines, as JSON."""
