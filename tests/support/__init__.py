"""What tests share: programs, networks, cases, and ways to compare gradients."""
