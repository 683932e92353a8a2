"""Many trials of one small network, trained by fbp's sweep and by the usual other ways."""
