"""See a network learn: a page on which every number is an entry of fbp's tape."""

from fbp.show.lesson import Lesson as Lesson
from fbp.show.lesson import lesson_of as lesson_of
from fbp.show.lesson import moons as moons
from fbp.show.lesson import xor as xor
from fbp.show.page import write_recording as write_recording
from fbp.show.record import LessonRecording as LessonRecording
from fbp.show.record import record as record
